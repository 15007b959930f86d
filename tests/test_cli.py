"""The command line: one sentence for bad settings, presets, help; commands that need no PyTorch start without it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from command_line import Command
from threedgp import __version__ as package_version
from threedgp.cli import app


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings and presets, as working directory."""
    shutil.copy(root / "params.yaml", tmp_path)
    shutil.copytree(root / "presets", tmp_path / "presets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m threedgp`` as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"}
    command = [sys.executable, "-m", "threedgp", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def edit(project: Path, pattern: str, new: str) -> None:
    params = project / "params.yaml"
    text, count = re.subn(pattern, new, params.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    params.write_text(text)


def test_check_accepts_the_default(project: Path, root: Path) -> None:
    result = start(root, "check")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(
        r"params\.yaml is valid: data set toy \(procedural, \d+ px\), \S+ thousand images of training\.\n",
        result.stdout,
    )


@pytest.mark.parametrize(
    ("pattern", "new", "message"),
    [
        ("^  generator_lr:", "  generator_rl:", "unknown key 'train.generator_rl'; did you mean 'train.generator_lr'?"),
        ("patch_resolution: .*", "patch_resolution: 512", "a patch of 512 pixels is larger than the image"),
        ("ray_end: .*", "ray_end: 0.01", "camera.ray_end: 0.01 is not greater than ray_start"),
        (
            r"^  fov:.*\n  - .*\n  - .*",
            "  fov: [10, 180]",
            "camera.fov: [10.0, 180.0] degrees is not inside (0, 180)",
        ),
        (
            r"(?s)source: procedural [^\n]*\n  path:(.*?)estimator: simulated ",
            r"source: rgbd\n  path: pictures\1estimator: sidecar ",
            "dataset.path: there is no 'pictures'",
        ),
        (
            r"(?s)source: procedural [^\n]*\n  path:(.*?)estimator: simulated ",
            r"source: rgbd\n  path: empty\1estimator: sidecar ",
            "dataset.path: there is nothing in the folder 'empty'",
        ),
        ("^  path:", "  path: empty", "dataset.path: source 'procedural' uses no files; set it to null"),
        (
            r"network: efficientnet_lite0 .*\n  weights:",
            "network: inception\n  weights: w.pth",
            "features.weights: there is no file 'w.pth'",
        ),
        ("^  processes: 1", "  processes: 3", "train.batch_size: 8 is not a multiple of 12 (processes 3 x "),
        (r"^  r1_gamma:.*\n", "", "key 'train.r1_gamma' is missing"),
        ("^dataset:", "dataset: [", "not valid YAML"),
    ],
)
def test_check_refuses_with_one_sentence(
    project: Path, threedgp: Command, pattern: str, new: str, message: str
) -> None:
    (project / "empty").mkdir()
    edit(project, pattern, new)
    code, out, err = threedgp("check")
    assert (code, out) == (2, "")
    assert err.startswith("error: params.yaml: ") and message in err
    assert err.count("\n") == 1


def test_check_of_another_file(project: Path, root: Path, threedgp: Command) -> None:
    (project / "params.yaml").rename(project / "mine.yaml")
    assert threedgp("check", "--params", "mine.yaml").code == 0
    result = start(root, "check")
    assert (result.returncode, result.stdout) == (2, "") and "params.yaml: no such file" in result.stderr


def test_preset_switches_and_lists(project: Path, root: Path, threedgp: Command) -> None:
    listing = threedgp("preset", "--list")
    assert listing.code == 0
    names = [line.split()[0] for line in listing.out.splitlines()]
    assert names == sorted(file.stem for file in (root / "presets").glob("*.yaml"))
    assert threedgp("preset", "smoke").code == 0
    assert "data set smoke" in threedgp("check").out
    wrong = threedgp("preset", "tony")
    assert wrong.code == 2 and wrong.err.startswith("error: there is no preset 'tony'")


def test_doctor_says_what_is_missing_and_what_to_do(project: Path, threedgp: Command) -> None:
    edit(project, "^  network: efficientnet_lite0 ", "  network: inception ")
    code, out, err = threedgp("doctor")
    assert code == 0, err
    assert re.search(r"^ok +Weights of inception", out, re.MULTILINE)
    assert "will be downloaded from https://github.com/toshas/torch-fidelity/" in " ".join(out.split())
    edit(project, "^  weights:", "  weights: w.pth")
    code, out, err = threedgp("doctor")
    assert code == 1, err
    assert re.search(r"^missing +Weights of inception", out, re.MULTILINE)
    assert "there is no file 'w.pth'" in out


def test_check_accepts_what_will_be_fetched(project: Path, threedgp: Command) -> None:
    edit(project, "^  network: efficientnet_lite0 ", "  network: inception ")
    edit(project, "^  network: efficientnet_lite0 ", "  network: resnet50.ram_in1k ")
    assert threedgp("check").code == 0


def test_check_and_preset_do_not_import_torch(root: Path) -> None:
    code = "import sys, threedgp.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=300).returncode == 0


def test_the_list_of_commands_shows_first_sentences() -> None:
    for name, command in typer.main.get_command(app).commands.items():
        if name != "experiments":  # a group
            described = " ".join(command.help.split())
            assert described.startswith(command.short_help) and command.short_help.endswith("."), name
            assert not re.search(r"\. |\n", command.short_help), name


def test_version_and_short_help(threedgp: Command) -> None:
    assert threedgp("--version") == (0, f"threedgp {package_version}\n", "")
    for command in ((), ("generate",)):
        short, long = (threedgp(*command, option) for option in ("-h", "--help"))
        assert short.code == 0 and short.out == long.out and "Usage: " in short.out
