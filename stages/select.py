"""Stage `select`: instance selection."""

from __future__ import annotations

from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage
from threedgp.data.selection import select_set
from threedgp.data.shards import ShardFolder

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Select the most likely images of each class, into data/<dataset>/selected.

    A Gaussian is fitted to the features of each class; the fraction `select.keep_fraction` of the class, or
    `select.keep_count` images, are kept. A stopped run resumes with the first missing class.
    """
    with open_stage("select", params) as stage:
        selected = stage.scratch / "selected"
        select_set(ShardFolder(stage.layout.features), selected, stage.config.select)
        stage.publish(selected, stage.layout.selected)


if __name__ == "__main__":
    app()
