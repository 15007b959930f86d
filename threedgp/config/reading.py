"""YAML 1.2, as DVC reads and writes it: `off` is a string and `1e-5` a number.

PyYAML reads YAML 1.1, in which they are false and a string.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import Node

from threedgp.runtime.errors import UserError

MAX_BYTES = 2**17
"""Larger files hold no settings; ruamel parses about 100 kB per second."""
MAX_VALUES = 10_000
"""Values of a file with each alias counted as a copy: a few nested aliases stand for billions of values."""


class _Constructor(SafeConstructor):
    """Names the place of values such as ``2024-13-01`` and ``!!int x``, which raise errors of any kind."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (YAMLError, RecursionError):
            raise
        except Exception as error:
            raise ConstructorError(problem=str(error), problem_mark=node.start_mark) from None


def read_yaml(path: Path) -> Any:
    """The content of the YAML file at `path`, as plain containers and values.

    Raises:
        UserError: the file is missing, cannot be read, or is not valid YAML.
    """
    try:
        with path.open("rb") as file:
            return parse_yaml(file.read(MAX_BYTES + 1), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the root of the project or pass --params.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); pass a file with --params.") from None


def parse_yaml(text: bytes, source: str) -> Any:
    """The content of a YAML file as plain containers and values.

    Raises:
        UserError: the file is not valid YAML, or is too large; `source` is its name in the message.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{source}: larger than {MAX_BYTES} bytes, so it does not hold settings; name another file.")
    parser = YAML(typ="safe", pure=True)
    parser.Constructor = _Constructor
    try:
        content = parser.load(text.decode("utf-8"))
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{source}: not valid YAML: {' '.join(str(error).split())[:300]}") from None
    remaining, count = [content], 0
    while remaining:
        count += 1
        if count > MAX_VALUES:
            raise UserError(f"{source}: holds more than {MAX_VALUES} values; remove aliases (*name) within aliases.")
        value = remaining.pop()
        if isinstance(value, dict | list | tuple | set):
            remaining += value
        if isinstance(value, dict):
            remaining += value.values()
    return content
