"""Options that the commands share, and the lists of numbers that people type."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from threedgp.runtime.errors import UserError

MODEL = Path("results/model")
MOST_SEEDS = 1_000_000
LEAST_SIZE, MOST_SIZE = 8, 4096
"""Pixels along the side of a picture."""


def _share(value: float) -> float:
    if not 0 <= value <= 1:  # so that NaN does not pass either
        raise UserError(f"--truncation: {value} does not lie between 0 and 1.")
    return value


Device = Literal["auto", "cpu", "cuda"]
Towards = Literal["all", "class"]

ModelArgument = Annotated[Path, typer.Argument(help="Folder with model.safetensors and config.json.")]
SeedsOption = Annotated[
    str, typer.Option("--seeds", metavar="LIST", help="Scenes by number, such as 0-15 or 3,7,20-29.")
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="LIST",
        help="Classes by number or name, such as 1,5: every scene in each of them. Without: drawn with the scene.",
    ),
]
TruncationOption = Annotated[
    float, typer.Option("--truncation", callback=_share, help="From 1 = full variety to 0 = the average scene.")
]
TowardsOption = Annotated[
    Towards, typer.Option("--towards", help="Truncate towards the average over all classes, or over the scene's own.")
]
SizeOption = Annotated[
    int | None,
    typer.Option(
        "--size",
        metavar="PIXELS",
        min=LEAST_SIZE,
        max=MOST_SIZE,
        help="Side of a picture. Without: as in training; any will do.",
    ),
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute; auto = the GPU where there is one.")]


def number_list(text: str, option: str) -> list[int]:
    """Whole numbers from text such as ``0-15,20``, in the order given, each once.

    Raises:
        UserError: the text is no such list, or names more than `MOST_SEEDS`.
    """
    numbers: dict[int, None] = {}
    for piece in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", piece, re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first:
            raise UserError(f"{option}: '{text}' is no list of numbers; write numbers and ranges such as 0-15,20.")
        if last - first + len(numbers) >= MOST_SEEDS:
            raise UserError(f"{option}: '{text}' names more than {MOST_SEEDS:,} numbers; ask for fewer at once.")
        numbers |= dict.fromkeys(range(first, last + 1))
    return list(numbers)


def class_list(text: str, names: list[str]) -> list[int]:
    """Labels from text such as ``1,5`` or ``dog,cat``, where a number is the label itself.

    Args:
        names: of the model's classes, by label.

    Raises:
        UserError: a class is unknown, or the model knows no classes.
    """
    if not names:
        raise UserError("--classes: this model knows no classes; leave the option out.")
    known = {name.casefold(): label for label, name in reversed(list(enumerate(names)))}
    labels: dict[int, None] = {}
    for piece in map(str.strip, text.split(",")):
        if re.fullmatch(r"[\d\s-]+", piece, re.ASCII):
            chosen = number_list(piece, "--classes")
        elif piece.casefold() in known:
            chosen = [known[piece.casefold()]]
        else:
            raise UserError(f"--classes: there is no class '{piece}'; {_which(names)}.")
        if chosen[-1] >= len(names):
            raise UserError(f"--classes: there is no class {chosen[-1]}; {_which(names)}.")
        labels |= dict.fromkeys(chosen)
    return list(labels)


def _which(names: list[str]) -> str:
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f"the model has 0 to {len(names) - 1} ({shown})"


def share_list(text: str, option: str) -> list[float]:
    """Numbers from 0 to 1 from text such as ``0,0.5,1``.

    Raises:
        UserError: the text is no such list.
    """
    try:
        shares = [float(piece) for piece in text.split(",")]
    except ValueError:
        shares = [-1.0]
    if not all(0 <= share <= 1 for share in shares):
        raise UserError(f"{option}: '{text}' is no list of numbers from 0 to 1, such as 0.7 or 0,0.5,1.")
    return list(dict.fromkeys(shares))
