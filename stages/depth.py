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
from threedgp.depth.estimation import SelectedImages, estimate_set
from threedgp.depth.estimator import DepthEstimator, build_estimator, estimator_problem
from threedgp.runtime.atomic import write_bytes
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import join_group
from threedgp.runtime.progress import say

app = typer.Typer(add_completion=False)
ROWS = 6
PreviewOption = Annotated[
    Path | None,
    typer.Option("--preview", metavar="FILE.png", help="Only write a contact sheet of images beside their depth."),
]
RowsOption = Annotated[int | None, typer.Option("--rows", min=1, help=f"Rows of the preview. Default: {ROWS}.")]


@app.command()
def main(params: ParamsOption = Path("params.yaml"), preview: PreviewOption = None, rows: RowsOption = None) -> None:
    """Estimate depth of the selected images with `depth.estimator`, into data/<dataset>/depth.

    The estimator sees the original pixels inside the crop. Its maps are resized to `dataset.resolution` and scaled to
    16 bits, larger = farther. Unusable maps are listed with a reason in rejects.parquet. A stopped run resumes with the
    first missing shard. The shards are shared by machine.processes (or torchrun) processes, one per GPU; the result
    does not depend on their number.

    With --preview, depth of a few images is estimated and shown (near is dark, far is bright); nothing else is written.
    """
    if preview or rows:
        with clear_errors():
            if preview is None:
                raise UserError("--rows: needs --preview, whose rows they are.")
            write_preview(load_config(params), preview, rows or ROWS)
        return
    with open_stage("depth", params, shared=True) as stage:
        problem = estimator_problem(stage.config.depth.estimator, stage.config.dataset.source)
        if problem:
            raise UserError(f"{params}: {problem}.")
        share_work(stage, _work)
        if stage.is_main:
            stage.publish(stage.scratch / "depth", stage.layout.depth)


def write_preview(config: Config, target: Path, rows: int) -> None:
    """Write the preview to `target`; print the reasons why images have no depth.

    Raises:
        UserError: `target` is not a PNG or cannot be written, or the estimator or its images are not available.
    """
    from threedgp.depth.preview import preview
    from threedgp.runtime.targets import require_writable, writing

    if target.suffix.lower() != ".png":
        raise UserError(f"--preview: the contact sheet is a PNG file; name it .png, not {target.name}.")
    require_writable(target, "--preview")
    images, estimator = _inputs(config, Layout.of(config))
    sheet, reasons = preview(images, estimator, config.depth.clip_percentile, rows)
    with writing(target, "--preview"):
        write_bytes(target, encode_image(sheet, "png"))
    for name, reason in reasons.items():
        say(f"no depth of {name}: {reason}")
    say(f"{target}: images beside their depth by '{estimator.name}'.")


def _work(should_stop: Callable[[], bool], config: Config, layout: Layout, scratch: Path) -> None:
    """Estimate the share of this process; finished shards are kept when it is stopped."""
    with join_group() as group:
        with group.main_process_first():  # it downloads the weights
            images, estimator = _inputs(config, layout)
        settings, workers = config.depth, config.machine.workers
        clip, batch = settings.clip_percentile, settings.batch_size
        estimate_set(images, estimator, clip, scratch / "depth", workers, group, batch)


def _inputs(config: Config, layout: Layout) -> tuple[SelectedImages, DepthEstimator]:
    if problem := estimator_problem(config.depth.estimator, config.dataset.source):
        raise UserError(f"{problem}.")
    source = open_source(config.dataset, layout.raw)
    images = SelectedImages(source, ShardFolder(layout.prepared), ShardFolder(layout.selected))
    return images, build_estimator(config.depth, config.machine.device, config.machine.mirror)


if __name__ == "__main__":
    app()
