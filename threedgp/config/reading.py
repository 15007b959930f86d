"""YAML as DVC reads and writes it, which is version 1.2: a plain `off` is a word, and `1e-5` a number.

PyYAML knows version 1.1, where they are false and a word.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from threedgp.runtime.errors import UserError


def read_yaml(text: bytes, source: str) -> Any:
    """The content of a YAML file: plain containers and values, no objects.

    Raises:
        UserError: it is none; `source` names the file.
    """
    try:
        return YAML(typ="safe", pure=True).load(text.decode("utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: this is no YAML: {' '.join(str(error).split())}") from None
