"""``threedgp experiments``: sets of runs as DVC experiments, and tables of their results."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from threedgp.commands.options import PARAMS, ParamsOption, number_list
from threedgp.commands.outputs import count_of
from threedgp.experiments.definitions import ExperimentSet, Job, Scale, experiment_name, jobs, load_set, set_names
from threedgp.experiments.tables import COLLECTED, WRITERS, Format, render, write_collected
from threedgp.runtime.errors import UserError

if TYPE_CHECKING:
    from threedgp.experiments.records import Record

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Sets of runs as DVC experiments, and tables of their numbers beside published ones (docs/table.md).",
)

SetArgument = Annotated[str, typer.Argument(metavar="SET", help="A set that `list` shows, or a .yaml file.")]
ScaleOption = Annotated[
    Scale | None,
    typer.Option(
        "--scale", help="paper = the real data sets; toy = the procedural world. Default: paper if it exists."
    ),
]
SeedsOption = Annotated[str, typer.Option("--seeds", metavar="LIST", help="Seeds of training, such as 0,1,2.")]
OnlyOption = Annotated[str, typer.Option("--only", metavar="RUNS", help="Runs of the set, such as 3dgp,epigraf.")]
ChangesOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-S", metavar="KEY=VALUE", help="Another setting of all runs; can be given several times."),
]


@app.command("list")
def list_sets() -> None:
    """Show all sets and their runs."""
    from rich.console import Console
    from rich.table import Table

    for name in set_names():
        experiments = load_set(name)
        table = Table(
            "run", "what it is", "preset", "scales", title=f"{name}: {experiments.about}", title_justify="left"
        )
        for key, run in experiments.runs.items():
            table.add_row(key, run.label, run.preset or experiments.toy.preset, ", ".join(experiments.scales(run)))
        Console().print(table)


@app.command()
def queue(
    name: SetArgument,
    to_dvc: Annotated[bool, typer.Option("--queue", help="Queue the runs; `dvc queue start` runs them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print, also with --queue.")] = False,
    only: OnlyOption = "",
    scale: ScaleOption = None,
    seeds: SeedsOption = "0",
    changes: ChangesOption = None,
    params: ParamsOption = PARAMS,
) -> None:
    """Print the commands of all runs of a set, or queue them as DVC experiments; what exists is skipped.

    \b
    Example:
      threedgp experiments queue ideas --scale toy --seeds 0,1,2 --queue
      dvc queue start
    """
    planned = _plan(name, only, scale, seeds, changes)
    if not to_dvc or dry_run:
        preset = None
        for job in planned:
            if job.preset != preset:
                print(f"threedgp preset {job.preset}")
            preset = job.preset
            print(shlex.join(["dvc", *_arguments(job, "--queue")]))
        return
    for job, code in _submit(planned, params, "--queue"):
        if code:
            raise UserError(f"experiment '{job.name}' could not be queued; see what DVC says above.")
    if planned:
        count = count_of(len(planned), "experiment")
        print(f"{count} queued; `dvc queue start` runs what is queued, and `dvc queue status` shows it.")


@app.command()
def run(
    name: SetArgument,
    only: OnlyOption = "",
    scale: ScaleOption = None,
    seeds: SeedsOption = "0",
    changes: ChangesOption = None,
    params: ParamsOption = PARAMS,
) -> None:
    """Run a set one experiment after another, in this folder; the same command continues after a stop.

    Unlike DVC's queue, which loses the work of a run that is stopped, training continues from its last checkpoint.
    params.yaml is restored at the end; `dvc repro` brings its results back.

    \b
    Example:
      nohup threedgp experiments run ideas --seeds 0,1,2 > experiments.log &
    """
    planned = _plan(name, only, scale, seeds, changes)
    for job, code in _submit(planned, params):
        if code:
            raise UserError(f"experiment '{job.name}' was not finished; the same command continues with it.")
    print(f"all runs are finished; `threedgp experiments table {name}` prints their numbers.")


@app.command()
def table(
    name: SetArgument = "paper",
    scale: ScaleOption = None,
    layout: Annotated[Format, typer.Option("--format", help="Format of the tables.")] = "text",
    out: Annotated[Path | None, typer.Option("--out", help="Write the tables to this file.")] = None,
    figures: Annotated[Path | None, typer.Option("--figures", help="Folder for the figures, as SVG files.")] = None,
    report: Annotated[
        bool, typer.Option("--report", help=f"Keep the tables for the report of the same data, in {COLLECTED}.")
    ] = False,
    records: Annotated[
        Path | None, typer.Option("--records", help="Read a file that --save wrote, in place of finished experiments.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write what the experiments measured to this file, as JSON lines.")
    ] = None,
) -> None:
    """Print what has been measured beside what was published: finished experiments and results/external/*.json.

    \b
    Example:
      threedgp experiments table paper --format latex --out table.tex --figures figures
    """
    from threedgp.experiments.records import read_records, write_records
    from threedgp.runtime.atomic import write_bytes
    from threedgp.runtime.progress import say
    from threedgp.runtime.targets import require_writable, writing
    from threedgp.visual.experiment_figures import draw

    experiments = load_set(name)
    scale = experiments.scale(scale)
    files = {figure.name: figures / f"{figure.name}.svg" for figure in experiments.figures} if figures else {}
    for target, option in [(out, "--out"), (save, "--save"), *((file, "--figures") for file in files.values())]:
        if target:
            require_writable(target, option)
    results = read_records(records) if records else _read_experiments(experiments, name, scale)
    if save:
        with writing(save, "--save"):
            write_records(save, results)
        say(f"{save}: {count_of(len(results), 'record')}.")
    measured = _by_row(results, experiments, name, scale)
    rendered = [found for one in experiments.tables if (found := render(one, experiments, scale, measured))]
    content = WRITERS[layout](rendered)
    if out:
        with writing(out, "--out"):
            write_bytes(out, content.encode())
        say(f"{out}: {count_of(len(rendered), 'table')}.")
    for figure in experiments.figures if figures else ():
        svg = draw(figure, experiments, scale, measured)
        if svg is None:
            say(f"figure '{figure.name}': none of its runs is finished.")
            continue
        with writing(files[figure.name], "--figures"):
            write_bytes(files[figure.name], svg.encode())
        say(f"{files[figure.name]}: figure '{figure.name}'.")
    if report:
        write_collected(rendered)
        say(f"{COLLECTED}: `dvc repro --force --single-item report` brings the tables of its data into the report.")
    if not out:
        print(content, end="")


def _plan(name: str, only: str, scale: Scale | None, seeds: str, changes: list[str] | None) -> list[Job]:
    """The runs that are neither finished nor queued. Raises UserError if a setting is wrong."""
    from threedgp.commands.preset import overridden, preset_values
    from threedgp.config import parse_config

    chosen = [piece.strip() for piece in only.split(",") if piece.strip()]
    more = dict(map(_change, changes or ()))
    experiments, numbers = load_set(name), number_list(seeds, "--seeds")
    planned = [
        replace(job, settings=job.settings | more)
        for job in jobs(experiments, name, experiments.scale(scale), numbers, chosen)
    ]
    presets = {preset: preset_values(preset) for preset in {job.preset for job in planned}}
    for job in planned:
        parse_config(overridden(presets[job.preset], job.settings), f"experiment '{job.name}'")
    there = _existing()
    missing = [job for job in planned if job.name not in there]
    if len(missing) < len(planned):
        count = len(planned) - len(missing)
        print(f"{count} of {len(planned)} experiments exist (remove one: dvc exp remove NAME).", file=sys.stderr)
    return missing


def _change(text: str) -> tuple[str, Any]:
    """Key and value of ``key=value``."""
    from threedgp.config.reading import parse_yaml

    key, sign, value = text.partition("=")
    if not (key and sign):
        raise UserError(f"--set: '{text}' is not a setting; write it as train.kimg=12.")
    return key.strip(), parse_yaml(value.encode(), f"--set {key}")


def _existing() -> set[str]:
    """Names of all DVC experiments that are finished, running or queued; those that failed are queued again."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    from threedgp.experiments.records import finished_experiments

    finished = finished_experiments().keys()
    try:
        with Repo() as repo:
            queue = repo.experiments.celery_queue
            tasks = queue.status()
            running, queued = (
                {one["name"] for one in tasks if one["status"] == state} for state in ("Running", "Queued")
            )
            if running and not queue.worker_status():  # their worker was killed
                running = set()
    except NotDvcRepoError:
        raise UserError("this folder is not in a DVC project; run from the root of the project.") from None
    return running | queued | finished


def _arguments(job: Job, *options: str) -> list[str]:
    """Arguments of the DVC command that runs or queues `job`, whose preset is in the params file.

    Images and the report are made after `dvc exp apply`, by `dvc repro`.
    """
    settings = (
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in job.settings.items()
    )
    changes = [argument for setting in settings for argument in ("-S", setting)]
    return ["exp", "run", *options, "-n", job.name, *changes, "evaluate"]


def _submit(planned: Sequence[Job], params: Path, *options: str) -> Iterator[tuple[Job, int]]:
    """Run or queue every job with DVC; yields each with DVC's exit code. The params file is restored at the end."""
    from threedgp.commands.preset import apply_preset
    from threedgp.config.reading import read_yaml
    from threedgp.runtime.atomic import write_bytes

    read_yaml(params)  # raises UserError
    before = params.read_bytes()
    try:
        for job in planned:
            apply_preset(job.preset, params)
            yield job, _dvc(_arguments(job, *options))
    finally:
        write_bytes(params, before)


def _dvc(arguments: list[str]) -> int:
    """Run a DVC command; returns its exit code.

    SIGINT and SIGTERM stop the command and its stage, which saves its work, and not this process, which has to restore
    the params file.
    """
    # The command must hear SIGINT, which a shell ignores for what it runs in the background.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([sys.executable, "-m", "dvc", *arguments], process_group=0, preexec_fn=heard)
    stops = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda number, frame: os.killpg(process.pid, signal.SIGINT)) for one in stops}
    try:
        return process.wait()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _names(name: str, scale: Scale, key: str) -> re.Pattern[str]:
    """Names of the experiments of run `key` with any seed."""
    return re.compile(re.escape(experiment_name(name, scale, key, 0)[:-1]) + r"\d+")


def _read_experiments(experiments: ExperimentSet, name: str, scale: Scale) -> dict[str, Record]:
    """Records of the finished experiments of the set by name, those of a run in the order of their names."""
    from threedgp.experiments.records import finished_experiments, read_experiment

    finished = finished_experiments()
    chosen = [one for key in experiments.runs for one in sorted(finished) if _names(name, scale, key).fullmatch(one)]
    return {one: record for one in chosen if (record := read_experiment(one, finished[one]))}


def _by_row(
    results: Mapping[str, Record], experiments: ExperimentSet, name: str, scale: Scale
) -> dict[str, list[Record]]:
    """Records of all seeds by the key of a row; at scale `paper`, also those of other systems."""
    from threedgp.experiments.records import read_external

    measured = {}
    for key in experiments.runs:
        names = _names(name, scale, key)
        measured[key] = [record for one, record in results.items() if names.fullmatch(one)]
    for one in experiments.tables if scale == "paper" else ():
        for row in one.rows:
            if row.key and not measured.get(row.key):
                record = read_external(row.key)
                measured[row.key] = [record] if record and record.dataset in one.datasets else []
    return measured
