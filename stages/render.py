"""Stage `render`: images, videos and meshes of the model."""

from __future__ import annotations

from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Draw grids of images, depth and normals, views from several cameras, videos and meshes, into results/renders.

    All scenes are functions of `render.seed`. real.png shows training images beside their estimated depth.
    """
    from threedgp.data.shards import ShardFolder
    from threedgp.models.loading import load_model, read_model_config
    from threedgp.runtime.device import choose_device
    from threedgp.visual.gallery import draw_gallery

    with open_stage("render", params) as stage:
        layout = stage.layout
        generator = load_model(layout.model, choose_device(stage.config.machine.device))
        resolution = read_model_config(layout.model)["resolution"]
        folder = stage.scratch / "renders"
        draw_gallery(generator, resolution, ShardFolder(layout.shards), stage.config.render, folder)
        stage.publish(folder, layout.renders)


if __name__ == "__main__":
    app()
