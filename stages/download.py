"""Stage `download`: get the raw pictures."""

from __future__ import annotations

from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage
from threedgp.data.sources.registry import download_source

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Get the raw pictures of the source that `dataset.source` names, into data/<dataset>/raw.

    The source `procedural` is rendered here, with true depth and cameras; `folder` and `rgbd` stay where they are and
    are only listed. A stopped run goes on with the first shard that is missing.
    """
    with open_stage("download", params) as stage:
        raw = stage.scratch / "raw"
        download_source(stage.config, raw)
        stage.publish(raw, stage.layout.raw)


if __name__ == "__main__":
    app()
