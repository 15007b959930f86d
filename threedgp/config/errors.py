"""Validation errors of ``params.yaml`` as one sentence that names the key and the remedy."""

from __future__ import annotations

import difflib
import reprlib
from typing import Any, get_args

from pydantic import BaseModel

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 2, 80, 80


def explain(error: Any, schema: type[BaseModel], source: str) -> str:
    """The message for one entry of `ValidationError.errors()` of the file `source`; `schema` is its root section."""
    path = tuple(text if (text := str(part)).isprintable() and len(text) < 80 else shown(text) for part in error["loc"])
    key, kind, value = ".".join(path), error["type"], shown(error["input"])
    message = error["msg"].removeprefix("Value error, ").rstrip(".")
    if kind == "extra_forbidden":
        near = _nearest(schema, path)
        return f"{source}: unknown key '{key}'; " + (f"did you mean '{near}'?" if near else "remove it.")
    names = tuple(part for part in path if not part.isdecimal())
    any_length = ... in get_args(_annotation(schema, names))
    if kind == "tuple_type" or (kind == "too_long" and not any_length) or (kind == "missing" and names != path):
        expected = "a list" if any_length else "a list of two numbers"
        return f"{source}: {'.'.join(names)}: expected {expected}, but it is {value}."
    if kind == "missing":
        return f"{source}: key '{key}' is missing; add it."
    if kind == "model_type":
        keys = "', '".join(_keys_of(schema, path)[:2])
        return f"{source}: {key + ': ' if key else ''}expected a section with keys such as '{keys}', but it is {value}."
    if kind == "string_pattern_mismatch":
        return f"{source}: {key}: {value} is not a name; use letters, digits and . _ -, with a letter or digit first."
    if kind == "value_error":  # raised by a validator of a section, which names the key in it
        named = message.split(":")[0].isidentifier()
        return f"{source}: {key}{'.' if key and named else ': ' if key else ''}{message}."
    return f"{source}: {key}: {message[0].lower() + message[1:]}, but it is {value}."


def shown(value: Any) -> str:
    """`repr` of a wrong value, short whatever the value is."""
    try:
        return _REPR.repr(value)
    except ValueError:  # more digits than Python converts
        return "a huge number"


def _annotation(schema: Any, path: tuple[str, ...]) -> Any:
    """Type of the setting at `path`; None if there is no such setting."""
    for key in path:
        field = schema.model_fields.get(key) if _is_section(schema) else None
        schema = field and field.annotation
    return schema


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _keys_of(schema: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    section = _annotation(schema, path)
    return list(section.model_fields) if _is_section(section) else []


def _all_keys(schema: type[BaseModel], path: tuple[str, ...] = ()) -> list[str]:
    below = [(*path, key) for key in _keys_of(schema, path)]
    return [".".join(key) for key in below] + [deeper for key in below for deeper in _all_keys(schema, key)]


def _nearest(schema: type[BaseModel], path: tuple[str, ...]) -> str | None:
    """The known key that is most similar to an unknown one: in the same section, otherwise in any section."""
    siblings = difflib.get_close_matches(path[-1], _keys_of(schema, path[:-1]), n=1, cutoff=0.6)
    if siblings:
        return ".".join((*path[:-1], siblings[0]))
    everything = _all_keys(schema)
    last = difflib.get_close_matches(path[-1], {key.rpartition(".")[2] for key in everything}, n=1, cutoff=0.8)
    same = [key for key in everything if last and key.rpartition(".")[2] == last[0]]
    return next(iter(difflib.get_close_matches(".".join(path), same, n=1, cutoff=0.0)), None)
