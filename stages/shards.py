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
    """Join images, depth and embeddings of the selected images, shuffled once, into data/<dataset>/shards.

    Images without usable depth are left out. The manifest holds the number of images per class. A stopped run goes
    on with the first shard that is missing.
    """
    with open_stage("shards", params) as stage:
        layout = stage.layout
        folders = (ShardFolder(folder) for folder in (layout.prepared, layout.selected, layout.depth, layout.embed))
        shards = stage.scratch / "shards"
        write_training_shards(JoinedShards(*folders), shards, stage.config.shards, stage.config.dataset.name)
        stage.publish(shards, layout.shards)


if __name__ == "__main__":
    app()
