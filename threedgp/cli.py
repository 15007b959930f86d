"""The ``threedgp`` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from threedgp.commands import doctor
from threedgp.commands import preset as presets
from threedgp.commands.fly import fly
from threedgp.commands.generate import generate
from threedgp.commands.info import info
from threedgp.commands.mesh import mesh
from threedgp.commands.view import view
from threedgp.config import Config, batch_problem, load_config
from threedgp.config.reading import read_yaml
from threedgp.needs.data import missing_pictures
from threedgp.needs.weights import missing_path, networks
from threedgp.runtime.errors import UserError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
ParamsOption = Annotated[Path, typer.Option("--params", help="File with the settings of all stages.")]


@app.callback()
def _about() -> None:
    """3D-aware image generation as a DVC pipeline. `dvc repro` runs it; these commands stand beside it."""


@app.command()
def preset(
    name: Annotated[str | None, typer.Argument(help="Preset to write into the params file.")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="Describe all presets.")] = False,
    params: ParamsOption = Path("params.yaml"),
) -> None:
    """Switch data set and scale: write a preset into params.yaml. Its comments and section `machine` stay."""
    if list_all or name is None:
        table = Table.grid(padding=(0, 2))
        for found in presets.list_presets():
            table.add_row(found.name, found.description)
        Console().print(table)
        return
    presets.apply_preset(name, params)
    print(f"{params} now holds preset '{name}'; `dvc repro` runs it.")


@app.command()
def check(params: ParamsOption = Path("params.yaml")) -> None:
    """Validate params.yaml, and that the data it points to is there, before anything runs."""
    config = load_config(params)
    absent = presets.absent_keys(read_yaml(params.read_bytes(), str(params)))
    if absent:
        raise UserError(f"{params}: key '{absent[0]}' is missing; DVC tracks what the file says, so add it.")
    problems = [missing_pictures(config), *map(missing_path, networks(config)), _unshared_batch(config)]
    for problem in filter(None, problems):
        raise UserError(f"{params}: {problem}.")
    data = config.dataset
    print(
        f"{params} is valid: data set {data.name} ({data.source}, {data.resolution} px), "
        f"{config.train.kimg:g} thousand images of training."
    )


def _unshared_batch(config: Config) -> str | None:
    problem = batch_problem(config, config.machine.processes)
    return problem and f"{problem}; stage train cannot run with this machine.processes, so change it or the batch"


@app.command()
def convert(
    snapshot: Annotated[Path, typer.Argument(help="Published snapshot of 3DGP or EpiGRAF (.pkl).")],
    folder: Annotated[Path, typer.Argument(help="Where to write model.safetensors and config.json.")],
) -> None:
    """Turn a published snapshot into a model folder. Runs no code of the snapshot; says what it cannot convert."""
    from threedgp.conversion.models import convert_snapshot

    convert_snapshot(snapshot, folder)
    print(f"{folder} now holds the generator of {snapshot}.")


@app.command("depth-eval")
def evaluate_depth(
    estimator: Annotated[str, typer.Option(help="As `depth.estimator` in params.yaml, such as leres.")],
    images: Annotated[Path, typer.Option(help="Folder of pictures.")],
    depth: Annotated[
        Path | None, typer.Option(help="Folder of true depth: 16-bit PNG or .npy; beside the pictures if not given.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="As `depth.weights`.")] = None,
    batch_size: Annotated[int, typer.Option(help="As `depth.batch_size`.")] = 16,
    device: Annotated[str, typer.Option(help="As `machine.device`.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Write the numbers to this file, too.")] = None,
) -> None:
    """Compare an estimator with true depth, up to scale and shift: AbsRel, delta1 (docs/depth.md)."""
    from threedgp.commands.depth_eval import compare

    compare(images, depth, json, {"estimator": estimator, "weights": weights, "batch_size": batch_size}, device)


@app.command("doctor")
def examine(params: ParamsOption = Path("params.yaml")) -> None:
    """Say what this machine has and lacks for the settings in params.yaml, and what to do about it."""
    findings = doctor.examine(load_config(params))
    console = Console()
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        mark = "[green]ok[/]" if finding.fine else "[red]lacks[/]" if finding.needed else "[yellow]without[/]"
        table.add_row(mark, finding.what, finding.found)
    console.print(table)
    for finding in findings:
        if finding.advice:
            console.print(f"{finding.what}: {finding.advice}", soft_wrap=True, highlight=False)
    if any(finding.needed and not finding.fine for finding in findings):
        raise typer.Exit(1)


for command in (generate, fly, mesh, view, info):
    app.command()(command)


def main() -> None:
    """Entry point: a UserError is one sentence and code 2."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
