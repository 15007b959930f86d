"""The ``threedgp`` command, assembled from `threedgp.commands`."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer

from threedgp import __version__
from threedgp.commands.check import check
from threedgp.commands.convert import convert
from threedgp.commands.depth_eval import depth_eval
from threedgp.commands.doctor import doctor
from threedgp.commands.ema import ema
from threedgp.commands.experiments import app as experiments
from threedgp.commands.export import export
from threedgp.commands.fly import fly
from threedgp.commands.generate import generate
from threedgp.commands.info import info
from threedgp.commands.invert import invert
from threedgp.commands.lift import lift
from threedgp.commands.mesh import mesh
from threedgp.commands.new import new
from threedgp.commands.plan import plan
from threedgp.commands.preset import preset
from threedgp.commands.push import push
from threedgp.commands.refine import refine
from threedgp.commands.snapshot import snapshot
from threedgp.commands.view import view
from threedgp.runtime.errors import explained
from threedgp.runtime.progress import CONTROL, print_all_characters

MEMORY_OPTIONS = dict.fromkeys(("generate", "fly", "view", "lift"), "--size")
MEMORY_OPTIONS |= {"mesh": "--resolution", "refine": "--batch"}
MEMORY_OPTIONS |= {"export": "--size or --resolution", "invert": "--size or --mesh-resolution"}
"""Options that determine how much memory a command needs."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"threedgp {__version__}")
        raise typer.Exit()


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """3D-aware image generation as a DVC pipeline. `dvc repro` runs the pipeline; these commands complement it."""


for command in (
    preset,
    new,
    check,
    plan,
    doctor,
    convert,
    snapshot,
    ema,
    depth_eval,
    generate,
    fly,
    mesh,
    lift,
    invert,
    refine,
    export,
    view,
    info,
    push,
):
    # By default, the list of commands shows whole paragraphs, with their line breaks.
    sentence = re.split(r"(?<=\.)\s", command.__doc__ or "", maxsplit=1)[0]
    app.command(short_help=" ".join(sentence.split()))(command)
app.add_typer(experiments, name="experiments")


def main() -> None:
    """Run the command line; an error that a user can act on is printed as one sentence and exits with code 2."""
    print_all_characters()
    try:
        app()
    except Exception as error:
        found = explained(error, MEMORY_OPTIONS.get(sys.argv[1], ""))
        if found is None:
            raise
        print(f"error: {found}".translate(CONTROL), file=sys.stderr)
        raise SystemExit(2) from None
