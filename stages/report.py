"""Stage `report`: one page that shows all results."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Write images, videos, curves, cameras and metrics into one self-contained page, results/report.html.

    It opens from disk in any browser and loads nothing from the network.
    """
    import hashlib
    from datetime import UTC, datetime

    from threedgp.data.shards import ShardFolder
    from threedgp.experiments.tables import read_collected
    from threedgp.runtime.atomic import write_bytes
    from threedgp.runtime.commit import git_commit
    from threedgp.visual.other_runs import read_run
    from threedgp.visual.report import Sources, build_report, reject_counts, run_facts

    with open_stage("report", params) as stage:
        layout = stage.layout
        prepared, shards = ShardFolder(layout.prepared), ShardFolder(layout.shards)
        metrics = json.loads(layout.metrics.read_text(encoding="utf-8"))
        details = layout.evaluation / "details.json"
        metrics |= json.loads(details.read_text(encoding="utf-8")) if details.is_file() else {}
        with (layout.model / "model.safetensors").open("rb") as stream:
            model = hashlib.file_digest(stream, "sha256").hexdigest()
        commit = git_commit()
        facts = run_facts(
            prepared,
            shards,
            metrics,
            layout.training,
            layout.evaluation,
            seed=stage.config.train.seed,
            model=model,
            date=datetime.now(UTC).date().isoformat(),
            commit=commit,
        )
        sources = Sources(
            title=stage.config.report.title,
            facts=facts,
            parameters=stage.settings,
            metrics=metrics,
            evaluation=layout.evaluation,
            renders=layout.renders,
            training=layout.training,
            tables=read_collected(f"{stage.config.dataset.name} {stage.config.dataset.resolution}"),
            rejects={"prepare": reject_counts(layout.prepared), "depth": reject_counts(layout.depth)},
            commit=commit,
            others={revision: read_run(revision) for revision in stage.config.report.compare},
        )
        page = stage.scratch / "report.html"
        write_bytes(page, build_report(sources).encode())
        stage.publish(page, layout.report)


if __name__ == "__main__":
    app()
