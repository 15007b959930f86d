"""``threedgp preset``: named sets of settings that are written into ``params.yaml``.

A preset ``presets/NAME.yaml`` states only how it differs from the defaults of the schema, or from the preset that it
`extends`. Applying one sets every key, so that the result does not depend on the previous content: switching to another
preset and back gives the same file, and DVC finds cached results. Section ``machine`` belongs to the user and stays.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from threedgp.commands.options import PARAMS, ForceOption, ParamsOption
from threedgp.commands.scratch import SCRATCH
from threedgp.config import Config, DatasetConfig, parse_config
from threedgp.config.reading import parse_yaml, read_yaml
from threedgp.runtime.atomic import write_bytes, write_json
from threedgp.runtime.errors import UserError

_PACKAGED = Path(__file__).parents[1] / "presets"
FOLDER = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2] / "presets"
"""A wheel holds the presets inside the package, a checkout beside it."""
COMMENT_COLUMN = 35
REMEMBERED = SCRATCH / "settings.json"
"""Digests of settings that `threedgp new` made."""


def preset(
    name: Annotated[str | None, typer.Argument(help="Preset to write into the params file.")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List all presets.")] = False,
    force: ForceOption = False,
    params: ParamsOption = PARAMS,
) -> None:
    """Switch data set and scale: write a preset into params.yaml, keeping comments and section `machine`."""
    if list_all or name is None:
        table = Table.grid(padding=(0, 2))
        for found in list_presets():
            table.add_row(found.name, found.description)
        Console().print(table)
        return
    values = preset_values(name)
    if not force:
        require_replaceable(params)
    write_values(values, params)
    print(f"{params} now holds preset '{name}'; `dvc repro` runs it.")


@dataclass(frozen=True)
class Preset:
    """Content of a preset's file."""

    name: str
    description: str
    extends: str | None
    overlay: dict[str, Any]


def list_presets(folder: Path = FOLDER) -> list[Preset]:
    """All presets, sorted by name."""
    return [read_preset(file.stem, folder) for file in sorted(folder.glob("*.yaml"))]


def read_preset(name: str, folder: Path = FOLDER) -> Preset:
    """Read one preset. Raises UserError if there is no preset of this name, or its file is not a mapping."""
    file = folder / f"{name}.yaml"
    if not file.is_file():
        names = ", ".join(sorted(other.stem for other in folder.glob("*.yaml")))
        raise UserError(f"there is no preset '{name}'; choose one of {names or f'the files of {folder}/'}.")
    overlay = read_yaml(file)
    if not isinstance(overlay, dict):
        raise UserError(f"{file}: expected sections such as 'dataset' and 'train'.")
    return Preset(name, overlay.pop("description", ""), overlay.pop("extends", None), overlay)


def default_values() -> dict[str, Any]:
    """Every key of the schema with its default, as plain values for YAML."""
    return _numbers(Config.model_construct(dataset=DatasetConfig.model_construct()).model_dump(mode="json"))


def preset_values(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Every key of the schema with its value in preset `name`. Raises UserError if the preset does not exist, or sets a
    wrong key or value."""
    chain = [read_preset(name, folder)]
    while chain[0].extends:
        if chain[0].extends in (preset.name for preset in chain):
            raise UserError(f"{folder / name}.yaml: presets extend each other in a circle; remove one `extends`.")
        chain.insert(0, read_preset(chain[0].extends, folder))
    values = default_values()
    for preset in chain:
        _merge(values, preset.overlay)
    parse_config(values, str(folder / f"{name}.yaml"))
    return values


def overridden(values: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A copy of `values` with `settings` by dotted key, which need not exist: `parse_config` names unknown ones."""
    result = copy.deepcopy(values)
    for dotted, value in settings.items():
        *sections, key = dotted.split(".")
        section = result
        for name in sections:
            if not isinstance(section.get(name), dict):
                section[name] = {}
            section = section[name]
        section[key] = value
    return result


def apply_preset(name: str, params: Path, folder: Path = FOLDER) -> None:
    """Write preset `name` into the file `params`. Raises UserError if the preset or the file does not exist or is
    wrong."""
    write_values(preset_values(name, folder), params)


def write_values(values: dict[str, Any], params: Path) -> None:
    """Write a value for every key into the file `params`; its comments, order and section ``machine`` stay. Raises
    UserError if the file does not exist or is wrong."""
    current = _read(params)
    values = {key: value for key, value in values.items() if key != "machine"}
    if "machine" in current:
        values["machine"] = current["machine"]
    editor = YAML()
    editor.width = 4096  # never wrap a line
    document = editor.load(params.read_text(encoding="utf-8"))
    _assign(document, values)
    text = io.StringIO()
    editor.dump(document, text)
    content = text.getvalue().encode()
    with suppress(UserError):
        if parse_yaml(content, str(params)) == values:
            return write_bytes(params, content)
    raise UserError(f"{params}: its layout cannot be kept; restore the file with git and run this again.")


def _read(params: Path) -> dict[str, Any]:
    current = read_yaml(params)
    if not isinstance(current, dict):
        raise UserError(f"{params}: expected sections such as 'dataset' and 'train'; restore it with git.")
    return current


def require_replaceable(params: Path, folder: Path = FOLDER) -> None:
    """Check that nothing is lost if the settings in the file `params` are replaced.

    Raises:
        UserError: they are neither a preset's nor those that `remember` was told, except for section ``machine``.
    """
    values = _shared(_read(params))
    if _digest(values) in _remembered():
        return
    presets = {preset.name: _shared(preset_values(preset.name, folder)) for preset in list_presets(folder)}
    edits = {name: differences(values, other) for name, other in presets.items()}
    nearest, keys = min(edits.items(), key=lambda one: len(one[1]))
    if keys:
        shown = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        raise UserError(
            f"{params}: was edited and would be replaced (it differs from preset '{nearest}' in {shown}); keep a copy, "
            "then pass --force."
        )


def differences(one: dict[str, Any], other: dict[str, Any], path: str = "") -> list[str]:
    """Dotted keys whose values differ, or that only one of the two has."""
    found = []
    for key in [*other, *(key for key in one if key not in other)]:
        first, second = one.get(key), other.get(key)
        if isinstance(first, dict) and isinstance(second, dict):
            found += differences(first, second, f"{path}{key}.")
        elif first != second or (key in one) != (key in other):
            found.append(f"{path}{key}")
    return found


def remember(values: dict[str, Any]) -> None:
    """Remember that a command made these settings, so that they may be replaced."""
    write_json(REMEMBERED, [*_remembered(), _digest(_shared(values))])


def _remembered() -> list[str]:
    try:
        return list(json.loads(REMEMBERED.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return []


def _shared(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "machine"}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _numbers(value: Any) -> Any:
    """Durations in thousands of images are strings in the schema and numbers in a file."""
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _merge(base: dict[str, Any], overlay: dict[str, Any]) -> None:
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _assign(document: Any, values: dict[str, Any]) -> None:
    """Set values in place and only where they differ, since ruamel attaches comments to the nodes of the document."""
    for key in [key for key in document if key not in values]:
        del document[key]
    for key, value in values.items():
        current = document.get(key)
        if isinstance(value, dict) and isinstance(current, dict):
            _assign(current, value)
        elif isinstance(value, list) and isinstance(current, list) and len(value) == len(current):
            for index, item in enumerate(value):
                current[index] = item
        elif current != value or isinstance(current, float) != isinstance(value, float):
            document[key] = value
            comment = document.ca.items.get(key, [None] * 3)[2]
            if comment is not None:
                comment.column = COMMENT_COLUMN  # a longer value before has moved it
            if value == [] and key in document.ca.items:
                document.ca.items[key][3] = None  # otherwise ruamel puts two later settings on one line
