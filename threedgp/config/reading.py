"""YAML 1.2, as DVC reads and writes it: `off` is a string and `1e-5` a number.

PyYAML reads YAML 1.1, in which they are false and a string.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from threedgp.runtime.errors import UserError


def read_yaml(text: bytes, source: str) -> Any:
    """The content of a YAML file as plain containers and values.

    Raises:
        UserError: the file is not valid YAML; `source` is its name in the message.
    """
    try:
        return YAML(typ="safe", pure=True).load(text.decode("utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
