"""``threedgp plan``: what it prints against the settings, and what it advises where a run does not fit."""

from __future__ import annotations

import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Command
from threedgp.commands import plan
from threedgp.commands.preset import preset_values
from threedgp.config import parse_config

Refused = Callable[..., str]
pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.fixture(autouse=True)
def params(root: Path, empty_machine: None) -> None:
    shutil.copy(root / "params.yaml", "params.yaml")


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w[\w, ]*?)  +(.*?) *$", text, re.MULTILINE))


def number(text: str) -> float:
    return float(text.split()[0].replace(",", ""))


def test_measured_on_this_device(threedgp: Command) -> None:
    code, out, err = threedgp("plan", "smoke", "--seconds", 0, "--price", 3)
    assert (code, err) == (0, "")
    found = rows(out)
    assert found["Images"] == "96, of which 72 are kept"
    assert found["Disk, download"] == "884.7 kB", "96 images of 32 px, 9 bytes per pixel"
    rate = number(found["Speed"])
    steps = 0.064 * 1000 / rate
    hours = float(re.search(r"days, (\S+) hours", found["Device time"])[1])
    assert steps < hours * 3600 < 100 * steps, "with the measurements, which are longer than so short a run"
    assert found["Cost"] == f"{3 * hours:,.2f} at 3 per hour"
    assert found["Batch"].startswith("8 images at once")
    assert number(found["Memory"]) > 0 and "after the end of this run" in out


def test_computed_for_cards(threedgp: Command) -> None:
    """Operators of `toy` are so small that preparing them on the host bounds the speed: a second GPU brings nothing."""
    times = []
    for arguments in (["--device", "a100"], ["--device", "a100", "--gpus", 2]):
        code, out, err = threedgp("plan", "toy", *arguments)
        assert (code, err) == (0, "")
        found = rows(out)
        assert "a100" not in found["Device"] and "A100 SXM 80 GB" in found["Device"]
        assert "computed from" in out and "assumptions" in out
        times.append(28_000 / number(found["Speed"]))
        hours = float(re.search(r"days, (\S+) hours", found["Device time"])[1])
        processes = len(times)
        assert hours == pytest.approx(times[-1] * processes / 3600, rel=0.01)
    assert times[0] == pytest.approx(times[1], rel=0.05)


@pytest.mark.parametrize(("fitting", "advice"), [(8, ""), (4, "accumulation to 2,"), (2, "not even one group fits")])
def test_advice_about_memory(fitting: int, advice: str) -> None:
    config = parse_config(preset_values("toy"))
    pace = plan.Pace("card", 100.0, "assumed", 0.0, 1.0, 1.0, fitting)
    text = " ".join(plan._advice(config, pace))
    assert advice in text and ("Memory" in text) == bool(advice)


def test_advice_about_disk_and_time(threedgp: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda place: usage(10, 0, 10))
    config = parse_config(preset_values("toy"))
    text = " ".join(plan._advice(config, plan.Pace("card", 0.001, "assumed", 0.0, 1.0, 1.0, 8)))
    assert "Disk: 1.3 GB are needed; free some" in text and "Time: 324 days; use more GPUs" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "there is no preset 'nothing'"),
        (["toy", "--device", "z100"], "--device: 'z100' is unknown; choose this or one of h200, h100"),
        (["toy", "--gpus", "3"], "train.batch_size: 8 is not a multiple of 12"),
        (["--params", "none.yaml"], "none.yaml: no such file"),
    ],
)
def test_bad_input(refused: Refused, arguments: list[str], message: str) -> None:
    assert message in refused("plan", *arguments)
