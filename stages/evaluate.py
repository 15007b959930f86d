"""Stage `evaluate`: how far the model's pictures, depth and cameras are from the real ones, beside controls."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    from threedgp.evaluation.real_side import RealSide

app = typer.Typer(add_completion=False)

KEPT = SCRATCH / "real-features"
"""Features of real pictures that every evaluation on them needs, under a key of their content."""
EXTERNAL = Path("results/external")


ImagesOption = Annotated[
    Path | None,
    typer.Option("--images", help="Score these samples of any system instead: a folder, or an NPZ as ADM writes."),
]
DepthOption = Annotated[
    Path | None, typer.Option("--depth", help="Folder of their depth maps, 16-bit PNG or .npy, larger = farther.")
]
LabelsOption = Annotated[Path | None, typer.Option("--labels", help="JSON file of their classes, as dataset.json.")]
BoundsOption = Annotated[
    tuple[float, float], typer.Option("--depth-range", help="Nearest and farthest depth, for nfs; a PNG has 0 to 1.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="JSON file for the numbers; results/external/<name>.json if not given.")
]


@app.command()
def main(
    params: ParamsOption = Path("params.yaml"),
    images: ImagesOption = None,
    depth: DepthOption = None,
    labels: LabelsOption = None,
    depth_range: BoundsOption = (0.0, 1.0),
    out: OutOption = None,
) -> None:
    """Measure the model, into results/metrics.json and results/evaluation.

    Generates `evaluate.samples` scenes with the trained model (and, as controls, with the untrained one) and compares
    them, and controls that need no model, with the prepared pictures; compares depth and cameras where the source
    knows the truth. A stopped run keeps the scenes and features that are done. machine.processes shares them out, one
    process for each GPU; torchrun, too. Their number changes nothing in the result.

    With --images it scores samples of any other system against the same real pictures, and touches no result of the
    pipeline: python -m stages.evaluate --images biggan/ --out results/external/biggan.json
    """
    if images:
        with open_stage("evaluate", params, _for_samples) as stage:
            score_samples(stage, images, depth, labels, depth_range, out)
        return
    with open_stage("evaluate", params, shared=True) as stage:
        if depth or labels or out:
            raise UserError("--depth, --labels, --out: go with samples; name these with --images.")
        share_work(stage, _work)
        if stage.leads:
            conclude(stage)


def _for_samples(declared: Declaration) -> Declaration:
    """What scoring samples reads: no model and nothing that training left; it writes no output of the pipeline."""
    deps = tuple(dep for dep in declared.deps if dep.parts[0] != "results" and dep.name != "selected")
    return replace(declared, name="evaluate-samples", deps=deps, outs=())


def _open_real(config: Config, layout: Layout) -> RealSide:
    from threedgp.evaluation.real_side import Folders, RealSide, build_networks

    return RealSide(config, Folders(layout.raw, layout.prepared, layout.features), build_networks(config), KEPT)


def _open(config: Config, layout: Layout, scratch: Path) -> Evaluation:
    from threedgp.evaluation.evaluation import Evaluation

    return Evaluation(_open_real(config, layout), layout.model, scratch)


def _pixel_estimator(config: Config) -> DepthEstimator | None:
    """The depth estimator, if it is asked for and looks at pixels: others know nothing of a generated picture."""
    from threedgp.depth.estimator import build_estimator

    if "depth_consistency" not in config.evaluate.metrics:
        return None
    found = build_estimator(config.depth, config.machine.device, config.machine.mirror)
    return found if found.looks_at_pixels else None


def _work(should_stop: Callable[[], bool], config: Config, layout: Layout, scratch: Path) -> None:
    """Make scenes and features as one of the processes; what was written when it is stopped counts."""
    from threedgp.runtime.processes import join_team

    with join_team() as team:
        with team.leader_first():  # it fetches the weights
            evaluation = _open(config, layout, scratch)
            if team.leads:
                _pixel_estimator(config)  # needed in the end; what it lacks is better told now
        evaluation.make(team)


def conclude(stage: Stage) -> None:
    """All numbers, from what the processes made."""
    from threedgp.evaluation import exhibits, summary
    from threedgp.evaluation.contests import MODEL
    from threedgp.evaluation.measuring import measure
    from threedgp.evaluation.sample_archive import write_archive
    from threedgp.models.loading import read_model_config
    from threedgp.runtime.atomic import write_json

    config, layout = stage.config, stage.layout
    folder = stage.scratch / "evaluation"
    evaluation = _open(config, layout, stage.scratch)
    training_rows = evaluation.real.training_rows(layout.selected)
    values = measure(evaluation, training_rows, _pixel_estimator(config), folder)
    values |= {"kimg": read_model_config(layout.model)["kimg"]}
    values |= summary.training_cost(layout.training / "curves.jsonl")
    networks = evaluation.real.feature_reference
    head, details = summary.split(values, (networks.network, networks.neighborhood_network))
    exhibits.write_controls(folder / "controls.json", head | details)
    exhibits.write_machine(folder / "machine.json", evaluation.device)
    write_json(folder / "details.json", details)
    if config.evaluate.archive:
        scenes = evaluation.scenes[MODEL]
        write_archive(folder / "samples.npz", scenes.column("image"), scenes.whole("label"))
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
    """Score samples of any system, into a file of their own."""
    from threedgp.evaluation import external
    from threedgp.evaluation.picture_folder import open_samples
    from threedgp.evaluation.summary import split
    from threedgp.runtime.atomic import write_json
    from threedgp.runtime.progress import say
    from threedgp.runtime.targets import require_writable, writing

    near, far = depth_range
    if not -math.inf < near < far < math.inf:
        raise UserError(f"--depth-range: {near:g} is not nearer than {far:g}; give the nearest depth first.")
    config, layout = stage.config, stage.layout
    target = out or EXTERNAL / f"{images.resolve().name.removesuffix('.npz')}.json"
    if any(place.resolve() in (target.resolve(), *target.resolve().parents) for place in vars(layout).values()):
        raise UserError(f"--out: {target} belongs to the pipeline; name another file.")
    if target.suffix != ".json":
        raise UserError(f"--out: the numbers are JSON, so call the file .json, not {target.name}.")
    require_writable(target, "--out")
    scratch = stage.scratch / external.listing_key(images, depth)
    scratch.mkdir(exist_ok=True)
    samples = open_samples(images, depth, labels, config.dataset.resolution, scratch)
    real = _open_real(config, layout)
    values = external.score(real, samples, scratch, bounds=depth_range, estimator=_pixel_estimator(config))
    networks = real.feature_reference
    head, details = split(values, (networks.network, networks.neighborhood_network))
    with writing(target, "--out"):
        write_json(target, {"about": external.about(real, images, depth), **head, **details})
    say(f"{target}: {len(samples.pictures)} samples against {real.prepared.manifest.rows} real pictures.")


if __name__ == "__main__":
    app()
