"""Validation errors of ``params.yaml`` as one sentence that names the key and the remedy."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel


def explain(error: Any, schema: type[BaseModel], source: str) -> str:
    """The message for one entry of `ValidationError.errors()` of the file `source`; `schema` is its root section."""
    path = tuple(str(part) for part in error["loc"])
    key, kind, value = ".".join(path), error["type"], error["input"]
    message = error["msg"].removeprefix("Value error, ").rstrip(".")
    if kind == "extra_forbidden":
        near = _nearest(schema, path)
        return f"{source}: unknown key '{key}'; " + (f"did you mean '{near}'?" if near else "remove it.")
    if kind in ("tuple_type", "too_long") or (kind == "missing" and isinstance(error["loc"][-1], int)):
        key = ".".join(part for part in path if not part.isdecimal())
        return f"{source}: {key}: expected a list of two numbers, but it is {value!r}."
    if kind == "missing":
        return f"{source}: key '{key}' is missing; add it."
    if kind == "model_type":
        keys = "', '".join(_keys_of(schema, path)[:2])
        return f"{source}: {key}: expected a section with keys such as '{keys}', but it is {value!r}."
    if kind == "string_pattern_mismatch":
        return f"{source}: {key}: {value!r} is not a name; use letters, digits and . _ -, with a letter or digit first."
    if kind == "value_error":  # raised by a validator of a section, which names the key in it
        named = message.split(":")[0].isidentifier()
        return f"{source}: {key}{'.' if key and named else ': ' if key else ''}{message}."
    return f"{source}: {key}: {message[0].lower() + message[1:]}, but it is {value!r}."


def _keys_of(section: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    for key in path:
        field = section.model_fields.get(key)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        section = field.annotation
    return list(section.model_fields)


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
