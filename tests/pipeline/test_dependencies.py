"""`dvc.yaml` against the code: DVC does not follow imports, `dependencies.py` does."""

import ast
import functools
import re
from pathlib import Path

import pytest
import yaml

from pipeline.dependencies import (
    CODE,
    OPTIONAL,
    TEMPLATES,
    WITHOUT_EFFECT,
    closure,
    imported_files,
    is_covered,
    items,
    needed,
    used_files,
    used_registries,
)
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
LIBRARY = [str(file.relative_to(ROOT)) for file in sorted((ROOT / "threedgp").rglob("*.py"))]
BASIS = {"config", "fetch", "runtime"}
DOWNWARDS = {
    "runtime": {"render"},
    "config": {"runtime"},
    "fetch": {"runtime"},
    "camera": BASIS,
    "data": {"camera", *BASIS},
    "render": {"camera", *BASIS},
    "depth": {"camera", "data", *BASIS},
    "features": {"data", *BASIS},
    "models": {"camera", "render", *BASIS},
    "conversion": {"models", *BASIS},
    "training": {"camera", "data", "features", "models", "render", *BASIS},
    "metrics": {"camera", "data", "depth", "features", "models", "render", *BASIS},
    "evaluation": {"camera", "data", "depth", "features", "metrics", "models", "render", *BASIS},
    "experiments": BASIS,
    "visual": {"camera", "data", "experiments", "models", "render", *BASIS},
    "export": {"camera", "models", "render", "visual", *BASIS},
    "api.py": {"camera", "commands/options.py", "models", "render", "visual", *BASIS},
    "commands": {
        "api.py",
        "camera",
        "conversion",
        "data",
        "depth",
        "evaluation",
        "experiments",
        "export",
        "features",
        "metrics",
        "models",
        "render",
        "training",
        "visual",
        *BASIS,
    },
}
"""What each part of the library may import: the renderer knows no model, the models know no data set."""
ENTRY_POINTS = {"threedgp/__init__.py", "threedgp/__main__.py", "threedgp/cli.py"}


@functools.cache
def declared() -> dict[str, Declaration]:
    return declarations(load_config(ROOT / "params.yaml"))


def test_stages_are_those_of_the_architecture(root: Path) -> None:
    assert list(declared()) == STAGES
    scripts = {file.stem for file in (root / "stages").glob("*.py")}
    assert scripts == {*STAGES, "__init__", "declaration", "finished", "harness", "layout"}
    commands = {name: stage["cmd"] for name, stage in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].items()}
    assert commands == {name: f"${{python}} -m stages.{name}" for name in STAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_the_code_that_changes_its_result(stage: str) -> None:
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    listed = [dep for dep in deps if dep.startswith(CODE)]
    advice = "run `python tests/pipeline/dependencies.py`, which corrects the lists"
    assert listed == needed(stage), f"dvc.yaml: the deps of stage '{stage}' are not the code that it uses; {advice}"


CHOICES = [
    (registry, Path(item).stem)
    for registry in sorted({folder for file in LIBRARY for folder in used_registries(file)} & set(TEMPLATES))
    for item in items(registry)
]


@pytest.mark.parametrize(("registry", "name"), CHOICES)
def test_stage_depends_on_what_is_chosen_and_on_nothing_else_of_its_kind(registry: str, name: str) -> None:
    section, key = re.search(r"\$\{(\w+)\.(\w+)\}", TEMPLATES[registry]).groups()
    config = load_config(ROOT / "params.yaml")
    choice = {
        "threedgp/data/sources": config.dataset.source,
        "threedgp/depth/estimators": config.depth.estimator,
        registry: name,
    }
    values = getattr(config, section).model_copy(update={key: name})
    for stage in declarations(config.model_copy(update={section: values})).values():
        used = closure(f"stages/{stage.name}.py", choice)
        assert {file for file in used if not is_covered(file, [*stage.deps, *WITHOUT_EFFECT])} == set(), stage.name
        others = set(items(registry)) - {f"{registry}/{name}.py"}
        assert not [other for other in others if is_covered(other, stage.deps)], stage.name


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
def test_optional_code_takes_no_part_in_the_work(stage: str) -> None:
    """A function that only the command calls, and not while the stage is at work, imports it.

    `test_imports_point_downwards` makes sure that no part of the library imports it.
    """
    body = ast.parse((ROOT / f"stages/{stage}.py").read_text()).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    for node in body:
        if not any(is_covered(file, OPTIONAL) for file in imported_files(node)):
            continue
        assert isinstance(node, ast.FunctionDef) and node.name not in ("main", "_work"), "imported at the top"
        for caller in functions:
            work = [inner for inner in ast.walk(caller) if isinstance(inner, ast.With) and _opens_stage(inner)]
            places = work if caller.name == "main" else [caller] if caller is not node else []
            assert not any(isinstance(n, ast.Name) and n.id == node.name for p in places for n in ast.walk(p))


def _opens_stage(node: ast.With) -> bool:
    return any("open_stage" in ast.dump(item) for item in node.items)


def test_code_without_effect_uses_no_other() -> None:
    library = [file for file in LIBRARY if file not in ENTRY_POINTS]
    used = {file: used_files(file) for file in library if is_covered(file, WITHOUT_EFFECT)}
    assert not [(file, other) for file in used for other in used[file] if not is_covered(other, WITHOUT_EFFECT)]


def test_imports_point_downwards() -> None:
    for file in sorted(set(LIBRARY) - ENTRY_POINTS):
        part = file.split("/")[1]
        for other in {*used_files(file), *used_registries(file)} - {"threedgp/__init__.py"}:
            allowed = {f"threedgp/{name}" for name in DOWNWARDS[part] | {part}}
            assert is_covered(other, allowed), f"{file} uses {other}"


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


def affected(key: str = "", file: str = "") -> list[str]:
    """Stages that run again when a setting or a file of code changes: those that declare it, and all that follow."""
    changed: set[Path] = set()
    again = []
    for name, stage in declared().items():
        mine = is_covered(file, stage.deps) or any(f"{key}.".startswith(f"{param}.") for param in stage.params)
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
def test_a_changed_setting_runs_what_follows_and_nothing_else(key: str, stages: list[str]) -> None:
    assert affected(key) == stages


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("threedgp/data/sources/procedural.py", STAGES),
        ("threedgp/data/sources/sdip.py", []),  # another source, and another estimator, than those of the settings
        ("threedgp/depth/estimators/leres.py", []),
        ("threedgp/training/schedules.py", FROM["train"]),
        ("threedgp/training/losses.py", FROM["train"]),
        ("threedgp/models/loading.py", FROM["train"]),
        ("threedgp/visual/styles.py", ["render", "report"]),
        ("threedgp/metrics/nfs.py", ["evaluate", "report"]),
        ("threedgp/visual/meshes.py", ["render", "report"]),
        ("threedgp/commands/generate.py", []),
        ("threedgp/runtime/progress.py", []),
    ],
)
def test_changed_code_runs_what_follows_and_nothing_else(file: str, stages: list[str]) -> None:
    assert (ROOT / file).is_file()
    assert affected(file=file) == stages


def test_training_depends_on_the_model_that_it_starts_from() -> None:
    config = load_config(ROOT / "params.yaml")
    other = config.model_copy(update={"train": config.train.model_copy(update={"init_from": "models/mine"})})
    users = [name for name, stage in declarations(other).items() if Path("models/mine") in stage.deps]
    assert users == ["train"]


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
        for node in ast.parse((ROOT / module).read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not heavy & {name.split(".")[0] for name in names}, f"{module} imports {names} at its top"
            if names:
                todo.extend(imported_files(node))
