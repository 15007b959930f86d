"""Stage `depth`: monocular depth of the selected images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from stages.harness import ParamsOption, clear_errors, open_stage, share_work
from stages.layout import Layout
from threedgp.config import Config, load_config
from threedgp.data.images import encode_image
from threedgp.data.shards import ShardFolder
from threedgp.data.source import open_source
from threedgp.depth.estimation import SelectedPictures, estimate_set
from threedgp.depth.estimator import DepthEstimator, build_estimator, estimator_problem
from threedgp.runtime.atomic import write_bytes
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import join_group

app = typer.Typer(add_completion=False)
PreviewOption = Annotated[
    Path | None,
    typer.Option("--preview", metavar="FILE.png", help="Only write some images beside their depth to this file."),
]
RowsOption = Annotated[int, typer.Option("--rows", min=1, help="Rows of the preview.")]


@app.command()
def main(params: ParamsOption = Path("params.yaml"), picture: PreviewOption = None, rows: RowsOption = 6) -> None:
    """Estimate depth of the selected images with `depth.estimator`, into data/<dataset>/depth.

    The estimator sees the original pixels inside the crop box; its maps are brought to `dataset.resolution` and scaled
    to 16 bits, larger = farther. Maps that cannot be used are listed with a reason in rejects.parquet. A stopped run
    goes on with the first shard that is missing. machine.processes shares the shards out, one process for each GPU;
    torchrun, too. Their number changes nothing in the result.

    With --preview only a few images are estimated and drawn beside their depth (near is dark, far is bright).
    """
    if picture:
        with clear_errors():
            show(load_config(params), picture, rows)
        return
    with open_stage("depth", params, shared=True) as stage:
        problem = estimator_problem(stage.config.depth.estimator, stage.config.dataset.source)
        if problem:
            raise UserError(f"{params}: {problem}.")
        share_work(stage, _work)
        if stage.is_main:
            stage.publish(stage.scratch / "depth", stage.layout.depth)


def show(config: Config, target: Path, rows: int) -> None:
    """Write the preview to `target`; print which images have no depth, and why.

    Raises:
        UserError: `target` is not a PNG or cannot be written, or the estimator or its images are missing.
    """
    from threedgp.depth.preview import preview
    from threedgp.runtime.targets import require_writable, writing

    if target.suffix.lower() != ".png":
        raise UserError(f"--preview: the picture is a PNG, so call it .png, not {target.name}.")
    require_writable(target, "--preview")
    pictures, estimator = _inputs(config, Layout.of(config))
    sheet, reasons = preview(pictures, estimator, config.depth.clip_percentile, rows)
    with writing(target, "--preview"):
        write_bytes(target, encode_image(sheet, "png"))
    for name, reason in reasons.items():
        print(f"no depth of {name}: {reason}")
    print(f"{target}: photographs beside their depth by '{estimator.name}'.")


def _work(should_stop: Callable[[], bool], config: Config, layout: Layout, scratch: Path) -> None:
    """Estimate this process's share; what was written when it is stopped counts."""
    with join_group() as group:
        with group.main_process_first():  # it fetches the weights
            pictures, estimator = _inputs(config, layout)
        settings, workers = config.depth, config.machine.workers
        clip, batch = settings.clip_percentile, settings.batch_size
        estimate_set(pictures, estimator, clip, scratch / "depth", workers, group, batch)


def _inputs(config: Config, layout: Layout) -> tuple[SelectedPictures, DepthEstimator]:
    if problem := estimator_problem(config.depth.estimator, config.dataset.source):
        raise UserError(f"{problem}.")
    source = open_source(config.dataset, layout.raw)
    pictures = SelectedPictures(source, ShardFolder(layout.prepared), ShardFolder(layout.selected))
    return pictures, build_estimator(config.depth, config.machine.device, config.machine.mirror)


if __name__ == "__main__":
    app()
