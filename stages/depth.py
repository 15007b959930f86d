"""Stage `depth`: monocular depth of the selected pictures."""

from __future__ import annotations

from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage
from threedgp.data.shards import ShardFolder
from threedgp.data.sources.registry import open_source
from threedgp.depth.estimation import estimate_set

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Estimate depth of the selected pictures with `depth.estimator`, into data/<dataset>/depth.

    The estimator sees the original pixels inside the crop box; its maps are brought to `dataset.resolution` and scaled
    to 16 bits, larger = farther. Maps that cannot be used are listed with a reason in rejects.parquet. A stopped run
    goes on with the first shard that is missing.
    """
    with open_stage("depth", params) as stage:
        source = open_source(stage.config.dataset, stage.layout.raw)
        depth = stage.scratch / "depth"
        prepared, selected = ShardFolder(stage.layout.prepared), ShardFolder(stage.layout.selected)
        estimate_set(source, prepared, selected, depth, stage.config.depth, stage.config.machine.workers)
        stage.publish(depth, stage.layout.depth)


if __name__ == "__main__":
    app()
