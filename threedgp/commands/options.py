"""Options that commands share, and parsing of lists such as 0-15,20."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from threedgp.runtime.errors import UserError

if TYPE_CHECKING:
    from threedgp.config import DepthConfig

MODEL = Path("results/model")
DEMO = Path(__file__).parents[1] / "demo"
"""The model that comes with the package, see its README.md."""
PARAMS = Path("params.yaml")
MAX_SEEDS = 1_000_000
MIN_SIZE, MAX_SIZE = 8, 4096
"""Pixels along the side of an image."""

Device = Literal["auto", "cpu", "cuda"]
Towards = Literal["all", "class"]


def find_model(given: str | Path) -> Path:
    """Folder of the model that `given` names: the folder itself, `demo` (unless there is a folder of that name), or a
    download, see `download_model_folder`."""
    if re.match(r"hf:|https?:", str(given), re.IGNORECASE):
        from threedgp.fetch.models import download_model_folder

        return download_model_folder(str(given))
    path = Path(given).expanduser()
    return DEMO if path == Path("demo") and not path.exists() else path


def _truncation(value: float) -> float:
    if not 0 <= value <= 1:  # NaN fails this test too
        raise UserError(f"--truncation: expected a number from 0 to 1, got {value}.")
    return value


ParamsOption = Annotated[Path, typer.Option("--params", help="File with the settings of all stages.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace settings that were edited by hand.")]
ModelArgument = Annotated[
    Path,
    typer.Argument(
        parser=find_model,
        metavar="MODEL",
        help="Folder with model.safetensors and config.json; demo, the model that comes with the package; "
        "hf://owner/name of the Hugging Face hub; or https://.../model.safetensors#sha256=...",
    ),
]
SeedsOption = Annotated[
    str, typer.Option("--seeds", metavar="LIST", help="Seeds of the scenes, such as 0-15 or 3,7,20-29.")
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="LIST",
        help="Classes by number or name, such as 1,5; every seed in each of them. Default: a random class per seed.",
    ),
]
TruncationOption = Annotated[
    float, typer.Option("--truncation", callback=_truncation, help="From 1 (full variety) to 0 (the average scene).")
]
TowardsOption = Annotated[
    Towards, typer.Option("--towards", help="Truncate towards the average of all classes, or of the scene's own class.")
]
SizeOption = Annotated[
    int | None,
    typer.Option(
        "--size",
        metavar="PIXELS",
        min=MIN_SIZE,
        max=MAX_SIZE,
        help="Side of an image, any number. Default: the resolution of the training data.",
    ),
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Device to compute on; auto = the GPU if there is one.")]


def number_list(text: str, option: str) -> list[int]:
    """Integers from text such as ``0-15,20``, in the given order, without duplicates. Raises UserError if the text is
    not such a list, or it has more than `MAX_SEEDS` numbers."""
    numbers: dict[int, None] = {}
    for piece in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", piece, re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first:
            raise UserError(f"{option}: '{text}' is not a list of numbers; write numbers and ranges such as 0-15,20.")
        if last - first + len(numbers) >= MAX_SEEDS:
            raise UserError(f"{option}: '{text}' has more than {MAX_SEEDS:,} numbers; ask for fewer at once.")
        numbers |= dict.fromkeys(range(first, last + 1))
    return list(numbers)


def class_list(text: str, names: list[str], option: str = "--classes") -> list[int]:
    """Labels from text such as ``1,5`` or ``dog,cat``; a number is the label itself. `names` are those of the model's
    classes, by label. Raises UserError if a class is unknown, or the model has no classes."""
    if not names:
        raise UserError(f"{option}: this model has no classes; leave the option out.")
    labels: dict[int, None] = {}
    known, pieces = {name.casefold() for name in names}, text.split(",")
    most = 1 + max(name.count(",") for name in names)  # names may contain commas: "tench, Tinca tinca" of ImageNet
    while pieces:
        starts = [",".join(pieces[:count]).strip() for count in range(min(most, len(pieces)), 0, -1)]
        piece = next((start for start in starts if start.casefold() in known), starts[-1])
        del pieces[: 1 + piece.count(",")]
        chosen = number_list(piece, option) if re.fullmatch(r"[\d\s-]+", piece, re.ASCII) else [piece]
        labels |= dict.fromkeys(label_of(one, names, option) for one in chosen)
    return list(labels)


def label_of(given: str | int, names: list[str], option: str) -> int:
    """The label of a class, given as number or name; the first class of a name. Raises UserError if there is none."""
    if isinstance(given, str):
        label = next((label for label, name in enumerate(names) if name.casefold() == given.casefold()), -1)
    else:
        label = int(given)
    if not 0 <= label < len(names):
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        known = f"the model has 0 to {len(names) - 1} ({shown})"
        raise UserError(f"{option}: there is no class {given!r}; {known}.")
    return label


def scene_list(seeds: str, classes: str | None, names: list[str]) -> list[tuple[int, int | None]]:
    """Pairs of seed and label: all seeds in the first class, then in the second, and so on. None = a random class for
    each seed. Lists and errors are those of `number_list` and `class_list`."""
    numbers = number_list(seeds, "--seeds")
    labels = [None] if classes is None else class_list(classes, names)
    return [(seed, label) for label in labels for seed in numbers]


def format_list(text: str, known: Iterable[str]) -> list[str]:
    """Formats from text such as ``glb,ply``, without duplicates. Raises UserError if one is not `known`."""
    formats = list(dict.fromkeys(text.lower().replace(" ", "").split(",")))
    for one in formats:
        if one not in known:
            raise UserError(f"--format: unknown format '{one}'; choose from {', '.join(known)}.")
    return formats


def truncation_list(text: str) -> list[float]:
    """Truncations from text such as ``0,0.5,1``. Raises UserError if the text is not a list of numbers from 0 to 1."""
    try:
        return list(dict.fromkeys(_truncation(float(piece)) for piece in text.split(",")))
    except ValueError:
        raise UserError(f"--truncation: '{text}' is not a list of numbers such as 0.7 or 0,0.5,1.") from None


def depth_settings(values: dict[str, Any]) -> DepthConfig:
    """Section `depth` with the values of options. Raises UserError that names the option whose value is wrong."""
    from pydantic import ValidationError

    from threedgp.config import DepthConfig

    try:
        return DepthConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['input']!r}: {first['msg']}.") from None
