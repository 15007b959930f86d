"""The code that each stage depends on, found by following imports, which DVC does not do.

    python tests/pipeline/dependencies.py

writes it into the `deps` of ``dvc.yaml``; test_dependencies.py checks that it is there.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

CODE = ("stages", "threedgp")
SUFFIXES = (".py", ".cpp", ".h", ".j2", ".js", ".yaml")
TEMPLATES = {
    "threedgp/data/sources": "threedgp/data/sources/${dataset.source}.py",
    "threedgp/depth/estimators": "threedgp/depth/estimators/${depth.estimator}.py",
}
"""Registries of which a run uses the one module that a setting names."""
WITHOUT_EFFECT = (
    "stages/declaration.py",
    "stages/harness.py",
    "stages/layout.py",
    "threedgp/__init__.py",
    "threedgp/config",  # DVC tracks the settings by their values
    "threedgp/fetch",  # downloads are verified by their checksums; which file is used is declared elsewhere
    "threedgp/runtime/addresses.py",
    "threedgp/runtime/allocator.py",
    "threedgp/runtime/atomic.py",
    "threedgp/runtime/device.py",
    "threedgp/runtime/errors.py",
    "threedgp/runtime/parallel.py",
    "threedgp/runtime/processes.py",
    "threedgp/runtime/progress.py",
    "threedgp/runtime/targets.py",
)
"""Code that changes no result: it validates, guards, reports progress and places files."""
OPTIONAL = (
    "threedgp/api.py",
    "threedgp/commands",
    "threedgp/depth/evaluation.py",
    "threedgp/depth/preview.py",
)
"""Code that no stage runs, or only with an option such as --preview, which writes no output."""
ONLY_IN = {"threedgp/data/world": ("download", "evaluate")}
"""Code that only these stages run: the world is rendered once, and its images are read from raw shards."""


def covers(dep: Path | str, file: str) -> bool:
    """Whether the dependency `dep`, a file or folder, contains `file`."""
    return Path(file) == Path(dep) or Path(dep) in Path(file).parents


def is_covered(file: str, deps: Iterable[Path | str]) -> bool:
    """Whether any of `deps` contains `file`."""
    return any(covers(dep, file) for dep in deps)


def closure(start: str, choice: dict[str, str] | None = None) -> set[str]:
    """`start` and all files that it uses, transitively, except optional ones and those of other stages.

    Args:
        start: a file, as a path relative to the root.
        choice: for a registry of `TEMPLATES`, the only module of it that is used. Default: all modules.
    """
    found: set[str] = set()
    todo = [start]
    skipped = (*OPTIONAL, *(code for code, stages in ONLY_IN.items() if Path(start).stem not in stages))
    while todo:
        file = todo.pop()
        if file in found or is_covered(file, skipped):
            continue
        found.add(file)
        todo.extend(used_files(file))
        for folder in used_registries(file):
            name = (choice or {}).get(folder)
            todo.extend([f"{folder}/{name}.py"] if name else items(folder))
    return found


def items(registry: str) -> list[str]:
    """Modules of a registry that can be chosen by name."""
    return sorted(str(file.relative_to(ROOT)) for file in (ROOT / registry).glob("[!_]*.py"))


@functools.cache
def used_files(file: str) -> frozenset[str]:
    """Files of the project that `file` imports, includes, or names in a string constant."""
    path = ROOT / file
    if path.suffix != ".py":
        headers = re.findall(r'#include "([^"]+)"', path.read_text())
        return frozenset(str(file.relative_to(ROOT)) for name in headers for file in (ROOT / "threedgp").rglob(name))
    tree = ast.parse(path.read_text())
    found = imported_files(tree)
    for text in _strings(tree):
        if (path.parent / text).suffix in SUFFIXES[1:] and (path.parent / text).is_file():
            found.add(str((path.parent / text).relative_to(ROOT)))
        elif re.fullmatch(r"threedgp(\.\w+)+", text):  # for importlib.import_module
            found.update(_files(text))
    if "with_suffix" in path.read_text() and path.with_suffix(".cpp").is_file():
        found.add(str(path.with_suffix(".cpp").relative_to(ROOT)))
    return frozenset(found)


@functools.cache
def used_registries(file: str) -> frozenset[str]:
    """Folders from which `file` imports a module by name: ``import_module(f"threedgp.data.sources.{name}")``."""
    if not file.endswith(".py"):
        return frozenset()
    texts = [
        node.values[0].value
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant)
    ]
    return frozenset(text.replace(".", "/")[:-1] for text in texts if re.fullmatch(r"threedgp\.(\w+\.)+", text))


def imported_files(tree: ast.AST) -> set[str]:
    """Files of the project that the import statements below `tree` name, with the packages on the way."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(file for alias in node.names for file in _files(alias.name))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            place = ROOT / node.module.replace(".", "/")
            assert not node.module.startswith(CODE) or place.is_dir() or place.with_suffix(".py").is_file(), node.module
            found.update(_files(node.module))
            found.update(file for alias in node.names for file in _files(f"{node.module}.{alias.name}"))
    return found


def _files(name: str) -> Iterator[str]:
    """Files of a dotted name; those of packages count only if they hold more than a docstring."""
    parts = name.split(".")
    if parts[0] not in CODE:
        return
    for depth in range(1, len(parts) + 1):
        place = "/".join(parts[:depth])
        if (ROOT / f"{place}.py").is_file():
            yield f"{place}.py"
        package = ROOT / place / "__init__.py"
        if package.is_file() and not is_empty(package):
            yield f"{place}/__init__.py"


def is_empty(file: Path) -> bool:
    """Whether a Python file holds no more than a docstring."""
    return file.suffix == ".py" and all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in ast.parse(file.read_text()).body
    )


def _strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def needed(stage: str) -> list[str]:
    """The code that belongs into the `deps` of `stage`: its script, then files and folders of the library, sorted.

    A folder stands for all files in it, if the stage uses all of them.
    """
    script = f"stages/{stage}.py"
    files = {file for file in closure(script) - {script} if not is_covered(file, WITHOUT_EFFECT)}
    registries = {folder for file in files for folder in used_registries(file)} & set(TEMPLATES)
    files -= {item for folder in registries for item in items(folder)}
    entries = files | {TEMPLATES[folder] for folder in registries}
    folders = {str(parent) for file in files for parent in Path(file).parents}
    for folder in sorted(folder for folder in folders if "/" in folder):
        inside = {str(file.relative_to(ROOT)) for file in (ROOT / folder).rglob("*") if _is_code(file)}
        if len(inside) > 1 and inside <= files:
            entries = {entry for entry in entries if not covers(folder, entry)} | {folder}
    entries = {entry for entry in entries if not is_covered(entry, entries - {entry})}
    return [script, *sorted(entries)]


def _is_code(file: Path) -> bool:
    return file.suffix in SUFFIXES and not is_empty(file)


def rewrite(text: str) -> str:
    """``dvc.yaml`` with the code that each stage needs; data and comments stay."""

    def rewritten(match: re.Match[str]) -> str:
        lines = match["deps"].splitlines(keepends=True)
        others = [line for line in lines if not line.strip().removeprefix("- ").startswith(CODE)]
        code = [f"      - {entry}\n" for entry in needed(match["stage"])]
        return match["before"] + "".join(code + others)

    return re.sub(
        r"(?P<before>^  (?P<stage>\w+):\n(?:    \w+: .*\n)*    deps:\n)(?P<deps>(?:      .*\n)+)",
        rewritten,
        text,
        flags=re.MULTILINE,
    )


if __name__ == "__main__":
    file = ROOT / "dvc.yaml"
    file.write_text(rewrite(file.read_text(encoding="utf-8")), encoding="utf-8")
