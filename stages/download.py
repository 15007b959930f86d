"""Stage `download`: get the raw pictures."""

from __future__ import annotations

from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage
from threedgp.data.source import download_source

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Get the raw pictures of the source that `dataset.source` names, into data/<dataset>/raw.

    The source `procedural` is rendered here, with true depth and cameras. What `dataset.path` names stays where it is
    and is only listed; the rest is fetched. docs/data.md says where each set comes from. A stopped run goes on where it
    was.
    """
    with open_stage("download", params) as stage:
        raw = stage.scratch / "raw"
        download_source(stage.config, raw)
        stage.publish(raw, stage.layout.raw)


if __name__ == "__main__":
    app()
