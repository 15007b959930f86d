"""`dvc.yaml` against the code: DVC does not follow imports, so this does."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stages.declaration import Declaration, declarations
from stages.layout import Layout
from threedgp.config import Config, load_config

ROOT = Path(__file__).resolve().parents[2]
STAGES = [
    "download",
    "prepare",
    "features",
    "select",
    "depth",
    "embed",
    "shards",
    "train",
    "evaluate",
    "render",
    "report",
]
# Modules that no result depends on: they check, guard, report and place. A change of one re-runs nothing.
WITHOUT_EFFECT = {
    "stages/declaration.py",
    "stages/harness.py",
    "stages/layout.py",
    "stages/processes.py",
    "threedgp/__init__.py",
    "threedgp/config",  # DVC tracks the settings by their values
    "threedgp/fetch",  # what it brings is checked by its hash, or by the stage that asked for it
    "threedgp/runtime/allocator.py",
    "threedgp/runtime/atomic.py",
    "threedgp/runtime/device.py",
    "threedgp/runtime/errors.py",
    "threedgp/runtime/processes.py",
    "threedgp/runtime/progress.py",
    "threedgp/runtime/targets.py",
}
# What only an option such as --preview reaches, which writes no output: a change of one re-runs nothing, too.
ASIDE = {"threedgp/commands", "threedgp/depth/evaluation.py", "threedgp/depth/preview.py", "threedgp/depth/scores.py"}
# What each part of the library may import, beside single modules at its top. "The renderer knows no model, the models
# know no data set."
DOWNWARDS = {
    "camera": set(),
    "data": {"camera"},
    "render": {"camera"},
    "depth": {"camera", "data"},
    "features": {"data"},
    "models": {"camera", "render"},
    "conversion": {"models"},
    "training": {"camera", "data", "models", "render"},
    "metrics": {"camera", "data", "depth", "features", "models", "render"},
    "evaluation": {"camera", "data", "depth", "features", "metrics", "models", "render"},
    "visual": {"camera", "data", "models", "render"},
    "commands": {"camera", "conversion", "data", "depth", "models", "needs", "render", "visual"},
    "needs": {"data"},
    "runtime": {"render"},
}
BASIS = {"__init__", "config", "fetch", "runtime"}
# Modules that import by name: the registered items are the modules of a folder.
REGISTRIES = {"threedgp/data/source.py": "threedgp/data/sources"}
TOOLS = {"threedgp/__main__.py", "threedgp/cli.py"}


@functools.cache
def declared() -> dict[str, Declaration]:
    return declarations(load_config(ROOT / "params.yaml"))


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Modules of the project that a file imports, anywhere in it, as paths; with the packages on the way.

    And the C++ that it compiles, which bears its name.
    """
    if module.endswith(".cpp"):
        return frozenset()
    native = module.replace(".py", ".cpp")
    compiled = {native} if (ROOT / native).exists() else set()
    folder = REGISTRIES.get(module)
    items = {str(item.relative_to(ROOT)) for item in (ROOT / folder).glob("[!_]*.py")} if folder else set()
    return _imported(ast.parse((ROOT / module).read_text()), module) | compiled | items


def _imported(tree: ast.AST, module: str = "") -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] in ("threedgp", "stages"):
                for depth in range(1, len(parts) + 1):
                    found |= set(_file(parts[:depth]))
    return frozenset(found)


def _file(parts: list[str]) -> Iterator[str]:
    """The file of a dotted name, if it is a module; a package only if there is more in it than a docstring."""
    place = "/".join(parts)
    if (ROOT / f"{place}.py").is_file():
        yield f"{place}.py"
    package = ROOT / place / "__init__.py"
    if package.is_file() and any(not _is_docstring(node) for node in ast.parse(package.read_text()).body):
        yield f"{place}/__init__.py"


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def closure(module: str) -> set[str]:
    """`module` and everything it imports, transitively, but for what is aside."""
    found, todo = set(), [module]
    while todo:
        module = todo.pop()
        if module not in found and not is_aside(module):
            found.add(module)
            todo.extend(imports(module))
    return found


def covers(dep: Path, module: str) -> bool:
    return Path(module) == dep or dep in Path(module).parents


def is_aside(module: str) -> bool:
    return any(covers(Path(place), module) for place in ASIDE)


def test_stages_are_those_of_the_architecture(root: Path) -> None:
    assert list(declared()) == STAGES
    scripts = {file.stem for file in (root / "stages").glob("*.py")}
    assert scripts == {*STAGES, "__init__", "declaration", "harness", "layout", "processes"}
    commands = {name: stage["cmd"] for name, stage in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].items()}
    assert commands == {name: f"${{python}} -m stages.{name}" for name in STAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_all_code_that_changes_its_result(stage: str) -> None:
    needed = closure(f"stages/{stage}.py")
    listed = [*declared()[stage].deps, *map(Path, WITHOUT_EFFECT)]
    missing = {module for module in needed if not any(covers(dep, module) for dep in listed)}
    assert not missing, f"dvc.yaml: stage '{stage}' lacks deps"


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_no_code_that_it_does_not_use(stage: str) -> None:
    used = closure(f"stages/{stage}.py")
    code = [dep for dep in declared()[stage].deps if dep.parts[0] in ("threedgp", "stages")]
    idle = {str(dep) for dep in code if not any(covers(dep, module) for module in used)}
    assert not idle, f"dvc.yaml: stage '{stage}' has deps that it does not import"
    assert not WITHOUT_EFFECT & {str(dep) for dep in code}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_reads_no_setting_that_it_does_not_declare(stage: str) -> None:
    """`a.b` in `config.a.b`; the harness refuses the same at run time, also below the library's functions."""
    for node in ast.walk(ast.parse((ROOT / f"stages/{stage}.py").read_text())):
        chain: list[str] = []
        while isinstance(node, ast.Attribute) and node.attr != "config":
            chain.insert(0, node.attr)
            node = node.value
        rooted = isinstance(node, ast.Attribute) or (isinstance(node, ast.Name) and node.id == "config")
        if chain and rooted:
            key = ".".join(chain)
            params = (*declared()[stage].params, "machine", "dataset.name")
            assert any(f"{key}.".startswith(f"{param}.") or param.startswith(f"{key}.") for param in params), key


@pytest.mark.parametrize("stage", STAGES)
def test_stage_touches_no_path_that_it_does_not_declare(stage: str) -> None:
    paths = vars(Layout.of(load_config(ROOT / "params.yaml")))
    touched = {
        node.attr
        for node in ast.walk(ast.parse((ROOT / f"stages/{stage}.py").read_text()))
        if isinstance(node, ast.Attribute)
        and (node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")) == "layout"
    }
    mine = declared()[stage]
    assert {paths[name] for name in touched} <= {*mine.deps, *mine.outs}
    written = {paths[name] for name in touched} & set(mine.outs)
    assert written == set(mine.outs), "declared and never written"


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_aside_takes_no_part_in_the_work(stage: str) -> None:
    """It is imported inside a function that only the command calls, and not while the stage is at work.

    `test_imports_point_downwards` sees to it that no part of the library imports it.
    """
    body = ast.parse((ROOT / f"stages/{stage}.py").read_text()).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    for node in body:
        if not any(map(is_aside, _imported(node))):
            continue
        assert isinstance(node, ast.FunctionDef) and node.name not in ("main", "_work"), "imported at the top"
        for caller in functions:
            work = [inner for inner in ast.walk(caller) if isinstance(inner, ast.With) and _opens_stage(inner)]
            places = work if caller.name == "main" else [caller] if caller is not node else []
            assert not any(isinstance(n, ast.Name) and n.id == node.name for p in places for n in ast.walk(p))


def _opens_stage(node: ast.With) -> bool:
    return any("open_stage" in ast.dump(item) for item in node.items)


def test_modules_without_effect_import_nothing_else(root: Path) -> None:
    without_effect = [str(file.relative_to(root)) for file in sorted((root / "threedgp").rglob("*.py"))]
    without_effect += [module for module in WITHOUT_EFFECT if module.startswith("stages/")]
    listed = list(map(Path, WITHOUT_EFFECT))
    for module in without_effect:
        if any(covers(dep, module) for dep in listed):
            assert all(any(covers(dep, other) for dep in listed) for other in imports(module)), module


def test_imports_point_downwards(root: Path) -> None:
    for file in sorted((root / "threedgp").rglob("*.py")):
        module = str(file.relative_to(root))
        part = file.relative_to(root / "threedgp").parts[0].removesuffix(".py")
        for target in imports(module):
            layer, other = target.split("/")[:2]
            other = other.partition(".")[0]
            assert layer != "stages", f"{module} imports {target}"
            if module in TOOLS or other == part:
                continue
            assert other in BASIS | DOWNWARDS.get(part, set()), f"{module} imports {target}"


def test_every_setting_belongs_to_a_stage_or_to_the_machine() -> None:
    # The report shows all settings, so it does not count.
    tracked = {"report", *(key for name, stage in declared().items() if name != "report" for key in stage.params)}
    for section, field in Config.model_fields.items():
        if section in tracked or section == "machine":
            continue
        for key in field.annotation.model_fields:
            # The name of the data set is part of every path below data/.
            assert f"{section}.{key}" in tracked or (section, key) == ("dataset", "name"), f"{section}.{key}"
    assert not any(key.startswith("machine") for stage in declared().values() for key in stage.params)


def affected(key: str) -> list[str]:
    """Stages that run again when the setting `key` changes: those that declare it, and all that follow them."""
    changed: set[Path] = set()
    again = []
    for name, stage in declared().items():
        mine = any(key == param or key.startswith(f"{param}.") for param in stage.params)
        if mine or any(dep in changed or changed & set(dep.parents) for dep in stage.deps):
            again.append(name)
            changed |= set(stage.outs)
    return again


FROM = {name: STAGES[STAGES.index(name) :] for name in STAGES}


@pytest.mark.parametrize(
    ("key", "stages"),
    [
        ("train.kimg", FROM["train"]),
        ("train.camera_regularizer.kind", FROM["train"]),
        ("model.generator.z_dim", FROM["train"]),
        ("camera.fov", FROM["train"]),
        ("depth.strength", ["depth", *FROM["shards"]]),
        ("embed.input_size", ["embed", *FROM["shards"]]),
        ("select.keep_fraction", FROM["select"]),
        ("features.network", FROM["features"]),
        ("dataset.resolution", FROM["prepare"]),
        ("prepare.encoding", FROM["prepare"]),
        ("download.seed", STAGES),
        ("dataset.source", STAGES),
        ("shards.seed", FROM["shards"]),
        ("evaluate.samples", ["evaluate", "report"]),
        ("render.views", ["render", "report"]),
        ("report.title", ["report"]),
        ("machine.device", []),
    ],
)
def test_a_change_runs_what_follows_and_nothing_else(key: str, stages: list[str]) -> None:
    assert affected(key) == stages


def test_outputs_are_those_of_the_layout() -> None:
    layout = Layout.of(load_config(ROOT / "params.yaml"))
    outs = {out for stage in declared().values() for out in stage.outs}
    assert outs == set(vars(layout).values())


@pytest.mark.parametrize("stage", ["download", "prepare", "select", "shards", "report"])
def test_light_stages_start_without_torch(stage: str) -> None:
    """Statically: no import of a heavy package at the top of anything that the stage imports at its top."""
    heavy = {"dvclive", "timm", "torch", "torch_fidelity", "torchvision"}
    todo, seen = [f"stages/{stage}.py"], set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        tree = ast.parse((ROOT / module).read_text())
        for node in tree.body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                parts = name.split(".")
                assert parts[0] not in heavy, f"{module} imports {name} at its top"
                if parts[0] in ("threedgp", "stages"):
                    todo.extend(file for depth in range(1, len(parts) + 1) for file in _file(parts[:depth]))
