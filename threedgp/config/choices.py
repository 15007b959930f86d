"""Names of what can be chosen by name: every registry is a folder, and the file name is the registered name."""

from __future__ import annotations

import pkgutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def names(package: str) -> tuple[str, ...]:
    """Names registered in `package`, such as ``threedgp.data.sources``, in alphabetical order.

    These are its modules, but for those that begin with an underscore: they hold shared code. Nothing is imported.
    """
    folder = ROOT.joinpath(*package.split("."))
    return tuple(module.name for module in pkgutil.iter_modules([str(folder)]) if module.name[0] != "_")
