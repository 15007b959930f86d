import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from command_line import Command
from threedgp.commands import preset as presets
from threedgp.config import load_config
from threedgp.runtime.errors import UserError

NAMES = [
    "animals",
    "cifar10",
    "eg3d",
    "eg3d_wide",
    "epigraf",
    "epigraf_wide",
    "imagenet",
    "imagenet_stable",
    "lsun_horses",
    "rgbd_example",
    "sdip_dogs",
    "sdip_elephants",
    "smoke",
    "stylegan2",
    "stylenerf",
    "toy",
    "toy_eg3d",
    "toy_eg3d_wide",
    "toy_epigraf",
    "toy_epigraf_wide",
    "toy_gpu",
    "toy_stylegan2",
    "toy_stylenerf",
    "toy_volumegan",
    "volumegan",
]
KIND_PRESETS = ("eg3d", "eg3d_wide", "epigraf", "epigraf_wide", "stylegan2", "stylenerf", "volumegan")
SAME_DATA = {"imagenet_stable": "imagenet"}
SAME_DATA |= {name: "imagenet" for name in KIND_PRESETS}
SAME_DATA |= {f"toy_{name}": "toy" for name in KIND_PRESETS}
"""Presets that use the data of another one, and what was computed from them."""
DATA_SECTIONS = ("dataset", "download", "prepare", "features", "select", "depth", "embed", "shards")


@pytest.fixture
def params(tmp_path: Path, root: Path) -> Path:
    copy = tmp_path / "params.yaml"
    copy.write_bytes((root / "params.yaml").read_bytes())
    return copy


def leaves(values: dict[str, Any], path: str = "") -> dict[str, str]:
    """Dotted key -> repr of the value, for 16 and 16.0 are equal here and differ for DVC's run cache."""
    found: dict[str, str] = {}
    for key, value in values.items():
        found |= leaves(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": repr(value)}
    return found


def test_params_in_git_are_the_preset_toy_and_list_every_key(root: Path) -> None:
    values = yaml.safe_load((root / "params.yaml").read_text())
    assert leaves(values) == leaves(presets.preset_values("toy", root / "presets"))


def test_every_key_of_params_has_a_comment_or_explains_itself(root: Path) -> None:
    lines = (root / "params.yaml").read_text().splitlines()
    settings = [line for line in lines if ":" in line and not line.lstrip().startswith("#")]
    assert sum("#" in line for line in settings) > 0.5 * len(settings)
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_preset_is_valid_and_described(name: str, root: Path, params: Path) -> None:
    presets.apply_preset(name, params, root / "presets")
    config = load_config(params)
    assert config.dataset.name == SAME_DATA.get(name, name), "each preset has its own folder under data/"
    assert presets.read_preset(name, root / "presets").description


@pytest.mark.parametrize(("name", "other"), SAME_DATA.items())
def test_presets_with_one_folder_have_the_same_data(name: str, other: str, root: Path) -> None:
    one, same = (presets.preset_values(preset, root / "presets") for preset in (name, other))
    assert all(one[section] == same[section] for section in DATA_SECTIONS)


def test_list_has_all(root: Path) -> None:
    assert [preset.name for preset in presets.list_presets(root / "presets")] == NAMES


@pytest.mark.parametrize("other", NAMES)
def test_there_and_back_gives_the_same_bytes(other: str, root: Path, params: Path) -> None:
    before = params.read_bytes()
    presets.apply_preset("toy", params, root / "presets")
    assert params.read_bytes() == before
    presets.apply_preset(other, params, root / "presets")
    presets.apply_preset("toy", params, root / "presets")
    assert params.read_bytes() == before


def test_comments_order_and_machine_stay(root: Path, params: Path) -> None:
    params.write_text(params.read_text().replace("workers: 2", "workers: 7"))
    before = params.read_text().splitlines()
    presets.apply_preset("smoke", params, root / "presets")
    after = params.read_text().splitlines()
    assert [line.partition("#")[2] for line in after] == [line.partition("#")[2] for line in before]
    assert [line.partition(":")[0] for line in after if ":" in line] == [
        line.partition(":")[0] for line in before if ":" in line
    ]
    assert load_config(params).machine.workers == 7


def test_own_changes_are_reset(root: Path, params: Path) -> None:
    values = yaml.safe_load(params.read_text())
    expected = leaves(values)
    values["train"]["kimgs"] = values["train"].pop("kimg")
    values["camera"]["radius"] = 2.0
    del values["report"]
    params.write_text(yaml.safe_dump(values))
    presets.apply_preset("toy", params, root / "presets")
    assert leaves(yaml.safe_load(params.read_text())) == expected


def test_wrong_presets_say_so(tmp_path: Path, params: Path) -> None:
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "misspelt.yaml").write_text("dataset: {source: procedural}\ntrain: {kimgs: 3}\n")
    (folder / "a.yaml").write_text("extends: b\n")
    (folder / "b.yaml").write_text("extends: a\n")
    (folder / "list.yaml").write_text("- 1\n")
    before = params.read_bytes()
    for name, message in {
        "misspelt": r"misspelt\.yaml: unknown key 'train\.kimgs'; did you mean 'train\.kimg'",
        "a": "circle",
        "list": r"list\.yaml: expected sections",
        "nothing": "there is no preset 'nothing'; choose one of a, b, list, misspelt",
    }.items():
        with pytest.raises(UserError, match=message):
            presets.apply_preset(name, params, folder)
    assert params.read_bytes() == before


def test_words_and_numbers_are_those_that_dvc_writes(root: Path, params: Path) -> None:
    # `dvc exp run -S model.depth_adaptor.mode=off` and a preset write the bare word.
    text = params.read_text()
    params.write_text(
        text.replace("    mode: all  ", "    mode: off  ").replace(
            "covariance_regularizer: 1.0e-05", "covariance_regularizer: 1e-5"
        )
    )
    assert params.read_text().count("mode: off") == 1
    config = load_config(params)
    assert config.model.depth_adaptor.mode == "off" and config.select.covariance_regularizer == 1e-5
    presets.apply_preset("toy", params, root / "presets")
    assert load_config(params).model.depth_adaptor.mode == "all"


LISTS = ["camera.yaw", "camera.look_at_radius", "evaluate.metrics", "render.grid", "render.truncations"]


@pytest.mark.parametrize("key", LISTS)
@pytest.mark.parametrize("count", [0, 1])
def test_dvc_empties_and_shortens_lists(key: str, count: int, root: Path, params: Path) -> None:
    section, name = key.split(".")
    expected = yaml.safe_load(params.read_text())
    before = params.read_bytes()
    items = expected[section][name] = expected[section][name][:count]
    apply_overrides(str(params), [f"{key}={items}"])
    assert yaml.safe_load(params.read_text()) == expected
    presets.apply_preset("toy", params, root / "presets")
    assert params.read_bytes() == before


@pytest.mark.parametrize("layout", ["{key}:  # a comment\n{items}", "# a comment\n  {key}:\n{items}"])
@pytest.mark.parametrize(("key", "items"), [("render.truncations", []), ("evaluate.metrics", ["swd"])])
def test_presets_empty_and_shorten_lists(tmp_path: Path, root: Path, layout: str, key: str, items: list[str]) -> None:
    section, name = key.split(".")
    folder, params = tmp_path / "presets", tmp_path / "params.yaml"
    folder.mkdir()
    text = (root / "presets" / "toy.yaml").read_text()
    (folder / "toy.yaml").write_text(text)
    (folder / "less.yaml").write_text(f"extends: toy\n{section}: {{{name}: {items}}}\n")
    values = presets.preset_values("toy", folder)
    rows = "".join(f"  - {item}\n" for item in values[section].pop(name))
    # The listed key stands first, and later ones have no comment: their line ends got lost.
    dumped = yaml.safe_dump(values, sort_keys=False)
    params.write_text(dumped.replace(f"{section}:\n", f"{section}:\n  {layout.format(key=name, items=rows)}"))
    presets.apply_preset("toy", params, folder)
    before = params.read_text()
    presets.apply_preset("less", params, folder)
    assert leaves(yaml.safe_load(params.read_text())) == leaves(presets.preset_values("less", folder))
    presets.apply_preset("toy", params, folder)
    assert re.sub(" +#", " #", params.read_text()) == re.sub(" +#", " #", before), "up to the column of comments"


@pytest.mark.parametrize(
    "text", ["a: [", "a: 1\na: 2\n", "a: !!int b", "a: \xfc", "a: &x {b: 1}\nc: &y [*y]\n", "[1]", "a: \x00"]
)
def test_params_that_are_no_settings_are_refused_and_stay(text: str, root: Path, params: Path) -> None:
    params.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"params\.yaml: (not valid YAML|holds more|expected sections)") as caught:
        presets.apply_preset("toy", params, root / "presets")
    assert "\n" not in str(caught.value)
    assert params.read_bytes() == text.encode("latin-1")


def test_aliases_that_a_change_would_break_are_refused(root: Path, params: Path) -> None:
    shared = params.read_text().replace("  density_noise:", "  density_noise: &ramp", 1)
    shared = (
        shared[: shared.index("  blur_sigma:")] + "  blur_sigma: *ramp\n" + shared[shared.index("  patch_scale_min") :]
    )
    params.write_text(shared)
    with pytest.raises(UserError, match="its layout cannot be kept"):
        presets.apply_preset("imagenet", params, root / "presets")
    assert params.read_text() == shared


def test_edited_settings_are_kept_unless_forced(
    root: Path, params: Path, threedgp: Command, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(params.parent)
    assert threedgp("preset", "smoke").code == 0
    assert threedgp("preset", "imagenet").code == 0, "a preset's own settings are replaced"
    params.write_text(params.read_text().replace("workers: 2", "workers: 7"))
    assert threedgp("preset", "toy").code == 0, "section machine stays in any case"
    edited = params.read_text().replace("kimg: 28 ", "kimg: 48 ").replace("    noise: false", "    noise: true ")
    params.write_text(edited)
    message = refused("preset", "smoke")
    assert "params.yaml" in message and "--force" in message
    assert "preset 'toy' in model.generator.noise, train.kimg" in message
    assert params.read_text() == edited
    assert threedgp("preset", "smoke", "--force").code == 0
    assert load_config(params).dataset.name == "smoke" and load_config(params).machine.workers == 7


def test_settings_that_are_remembered_are_replaced(
    params: Path, threedgp: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(params.parent)
    values = yaml.safe_load(params.read_text())
    values["train"]["seed"] = 7
    presets.write_values(values, params)
    assert threedgp("preset", "smoke").code == 2
    presets.remember(values)
    assert threedgp("preset", "smoke").code == 0
    presets.write_values(values, params)
    (params.parent / ".scratch/settings.json").write_text("damaged")
    assert threedgp("preset", "smoke").code == 2


@pytest.mark.parametrize("text", ["own: 1\n", "dataset: {}\ntrain: [1]\n", "dataset: toy\n"])
def test_settings_of_another_form_are_edits(
    text: str, params: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(params.parent)
    params.write_text(text)
    assert "was edited" in refused("preset", "toy")
    assert params.read_text() == text
