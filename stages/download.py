"""Stage `download`: get the raw images."""

from __future__ import annotations

from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage
from threedgp.data.source import download_source

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Get the raw images of the source that `dataset.source` names, into data/<dataset>/raw.

    The source `procedural` is rendered, with true depth and cameras. Files at `dataset.path` stay where they are and
    are listed; other data sets are downloaded (docs/data.md). A stopped run resumes where it was.
    """
    with open_stage("download", params) as stage:
        raw = stage.scratch / "raw"
        download_source(stage.config, raw)
        stage.publish(raw, stage.layout.raw)


if __name__ == "__main__":
    app()
