"""Stage `shards`: training shards."""

from __future__ import annotations

from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage
from threedgp.data.shards import ShardFolder
from threedgp.data.shuffle import JoinedShards, write_training_shards

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Join and shuffle images, depth and embeddings of the selected images, into data/<dataset>/shards.

    Images without usable depth are left out. The manifest states the number of images of each class. A stopped run
    resumes with the first missing shard.
    """
    with open_stage("shards", params) as stage:
        layout = stage.layout
        folders = (ShardFolder(folder) for folder in (layout.prepared, layout.selected, layout.depth, layout.embed))
        shards = stage.scratch / "shards"
        write_training_shards(JoinedShards(*folders), shards, stage.config.shards, stage.config.dataset.name)
        stage.publish(shards, layout.shards)


if __name__ == "__main__":
    app()
