"""Stage `evaluate`: distances of the model's images, depth and cameras from the real set, beside those of controls."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.declaration import Declaration
from stages.harness import SCRATCH, ParamsOption, Stage, open_stage, share_work
from stages.layout import Layout
from threedgp.config import Config
from threedgp.runtime.errors import UserError

if TYPE_CHECKING:
    from threedgp.depth.estimator import DepthEstimator
    from threedgp.evaluation.evaluation import Evaluation
    from threedgp.evaluation.reference import Reference
    from threedgp.metrics._declaration import Metric

app = typer.Typer(add_completion=False)

CACHE = SCRATCH / "real-features"
"""Features of real images for every evaluation on them, under a key of their content."""
EXTERNAL = Path("results/external")
PNG_RANGE = (0.0, 1.0)
"""Nearest and farthest depth of a PNG, the default of --depth-range."""


ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images", help="Score these samples of any system instead: a folder of images, or an NPZ file as ADM writes."
    ),
]
DepthOption = Annotated[
    Path | None,
    typer.Option("--depth", help="Folder of the samples' depth maps, 16-bit PNG or .npy, larger = farther."),
]
LabelsOption = Annotated[
    Path | None, typer.Option("--labels", help="JSON file of the samples' classes, as dataset.json.")
]
BoundsOption = Annotated[
    tuple[float, float], typer.Option("--depth-range", help="Nearest and farthest depth of --depth; a PNG has 0 to 1.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="JSON file for the numbers; default: results/external/<name>.json.")
]


@app.command()
def main(
    params: ParamsOption = Path("params.yaml"),
    images: ImagesOption = None,
    depth: DepthOption = None,
    labels: LabelsOption = None,
    depth_range: BoundsOption = PNG_RANGE,
    out: OutOption = None,
) -> None:
    """Measure the model and write results/metrics.json and results/evaluation.

    Generates `evaluate.samples` scenes with the trained model (with controls, also with the untrained one) and compares
    them with the prepared images, and depth and cameras where the source knows the truth. A stopped run resumes with
    the finished scenes and features. machine.processes or torchrun distributes the work, one process per GPU; their
    number does not change the result.

    With --images, samples of any other system are scored against the same real images, and no result of the pipeline
    changes: python -m stages.evaluate --images biggan/ --out results/external/biggan.json
    """
    if images:
        with open_stage("evaluate", params, _for_samples) as stage:
            score_samples(stage, images, depth, labels, depth_range, out)
        return
    with open_stage("evaluate", params, shared=True) as stage:
        if depth or labels or out or depth_range != PNG_RANGE:
            raise UserError("--depth, --labels, --depth-range, --out: need --images, the samples to score.")
        share_work(stage, _work)
        if stage.is_main:
            conclude(stage)


def _for_samples(declared: Declaration) -> Declaration:
    """The declaration for scoring samples, which reads no model and writes no output of the pipeline."""
    deps = tuple(dep for dep in declared.deps if dep.parts[0] != "results" and dep.name != "selected")
    return replace(declared, name="evaluate-samples", deps=deps, outs=(), repro="features")


def _open_reference(
    config: Config, layout: Layout, metrics: Mapping[str, Metric], samples: int | None = None
) -> Reference:
    from threedgp.evaluation.reference import Reference, build_networks

    networks = build_networks(config, metrics.values())
    folders = {"raw": layout.raw, "prepared": layout.prepared, "features": layout.features}
    return Reference(config, networks, **folders, cache=CACHE, samples=samples)


def _open(config: Config, layout: Layout, scratch: Path) -> Evaluation:
    from threedgp.evaluation.evaluation import Evaluation
    from threedgp.evaluation.measuring import load_metrics
    from threedgp.runtime.precision import use_precision

    use_precision("fp32")
    metrics = load_metrics(config.evaluate.metrics)
    return Evaluation(_open_reference(config, layout, metrics), metrics, layout.model, scratch)


def _pixel_estimator(config: Config, metrics: Mapping[str, Metric]) -> DepthEstimator | None:
    """The depth estimator, if a metric needs it and it looks at pixels: others cannot estimate generated images."""
    from threedgp.depth.estimator import build_estimator

    if not any("estimated_depth" in metric.needs for metric in metrics.values()):
        return None
    estimator = build_estimator(config.depth, config.machine.device, config.machine.mirror)
    return estimator if estimator.looks_at_pixels else None


def _work(should_stop: Callable[[], bool], config: Config, layout: Layout, scratch: Path) -> None:
    """Make scenes and features as one of the processes; a stopped process leaves finished files."""
    from threedgp.runtime.processes import join_group

    with join_group() as group:
        with group.main_process_first():  # it fetches the weights
            evaluation = _open(config, layout, scratch)
            if group.is_main:
                _pixel_estimator(config, evaluation.metrics)  # needed at the end; report missing weights now
        evaluation.make(group)


def conclude(stage: Stage) -> None:
    """Measure everything from what the processes made, and publish the results."""
    from threedgp.evaluation import exhibits, measuring
    from threedgp.evaluation.sample_files import write_archive
    from threedgp.models.loading import read_model_config
    from threedgp.models.saving import WEIGHTS
    from threedgp.runtime.atomic import write_json
    from threedgp.runtime.device import write_machine
    from threedgp.runtime.progress import say

    config, layout = stage.config, stage.layout
    folder = stage.scratch / "evaluation"
    evaluation = _open(config, layout, stage.scratch)
    if left_out := evaluation.without_density():
        say(f"evaluate: {', '.join(left_out)}: left out, since the model makes images without density or cameras")
    reference, scenes = evaluation.reference, evaluation.scenes["model"]
    exhibits.write_strips(folder, {"real": reference.half.images(), **evaluation.images})
    rows = measuring.measure(
        evaluation.metrics,
        evaluation.sets(_pixel_estimator(config, evaluation.metrics)),
        evaluation.run_inputs(reference.training_rows(layout.selected)),
        reference.networks,
        folder,
    )
    if evaluation.has_density:
        cameras = {"learned": scenes.whole("camera"), "prior": scenes.whole("prior")}
        exhibits.write_cameras(
            folder / "cameras.tsv", cameras | ({"true": reference.half.cameras()} if reference.has_truth else {})
        )
    facts = {"samples": config.evaluate.samples, "kimg": read_model_config(layout.model)["kimg"]}
    head, details = measuring.split(rows, facts | exhibits.training_cost(layout.training / "curves.jsonl"))
    measuring.write_comparisons(folder, rows, evaluation.distilled)
    write_machine(folder / "machine.json", evaluation.device)
    with (layout.model / WEIGHTS).open("rb") as stream:
        write_json(folder / "model.json", {"sha256": hashlib.file_digest(stream, "sha256").hexdigest()})
    write_json(folder / "details.json", details)
    if config.evaluate.archive:
        labels = scenes.whole("label") if evaluation.generators["model"].num_classes else None
        write_archive(folder / "samples.npz", scenes.column("image"), labels)
    write_json(stage.scratch / "metrics.json", head)
    stage.publish(folder, layout.evaluation)
    stage.publish(stage.scratch / "metrics.json", layout.metrics)


def score_samples(
    stage: Stage,
    images: Path,
    depth: Path | None,
    labels: Path | None,
    depth_range: tuple[float, float],
    out: Path | None,
) -> None:
    """Score samples of any system and write the numbers to a file of their own."""
    from threedgp.evaluation import external
    from threedgp.evaluation.measuring import load_metrics, split
    from threedgp.evaluation.sample_files import open_samples
    from threedgp.runtime.atomic import write_json
    from threedgp.runtime.progress import say
    from threedgp.runtime.targets import require_writable, writing

    near, far = depth_range
    if not -math.inf < near < far < math.inf:
        raise UserError(f"--depth-range: {near:g} is not less than {far:g}; give the nearest depth first.")
    if depth is None and depth_range != PNG_RANGE:
        raise UserError("--depth-range: needs --depth, the maps whose range it is.")
    config, layout = stage.config, stage.layout
    target = out or EXTERNAL / f"{images.resolve().name.removesuffix('.npz')}.json"
    if any(place.resolve() in (target.resolve(), *target.resolve().parents) for place in vars(layout).values()):
        raise UserError(f"--out: {target} is an output of the pipeline; name another file.")
    if target.suffix != ".json":
        raise UserError(f"--out: the file must end in .json, not {target.name}.")
    require_writable(target, "--out")
    scratch = stage.scratch / external.listing_key(images, depth)
    scratch.mkdir(exist_ok=True)
    samples = open_samples(images, depth, labels, config.dataset.resolution, scratch)
    metrics = load_metrics(config.evaluate.metrics)
    reference = _open_reference(config, layout, metrics, len(samples.images))
    estimator = _pixel_estimator(config, metrics)
    rows = external.score(metrics, reference, samples, scratch, depth_range=depth_range, estimator=estimator)
    head, details = split(rows, {"samples": len(samples.images)})
    with writing(target, "--out"):
        write_json(target, {"about": external.about(reference, images, depth), **head, **details})
    say(f"{target}: {len(samples.images)} samples against {reference.prepared.manifest.rows} real images.")


if __name__ == "__main__":
    app()
