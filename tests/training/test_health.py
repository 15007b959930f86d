"""Problems that curves show: each is found in a run that has it, and none in a healthy one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from threedgp.training.health import HealthLog, findings
from threedgp.training.logging import no_log
from training.worlds import tiny_config

CONFIG = tiny_config()
HEALTHY = {
    "generator/loss": 0.9,
    "generator/adapted_correlation": 0.9,
    "generator/depth_deviation": 0.5,
    "generator/adapted_deviation": 0.5,
    "discriminator/loss": 1.0,
    "discriminator/r1": 0.02,
    "camera/regularizer": 0.1,
    **{
        f"camera/{name}_{kind}": value
        for name in ("yaw", "pitch", "fov")
        for low, high in [getattr(CONFIG.camera, name)]
        for kind, value in (("mean", (low + high) / 2), ("std", (high - low) / 4))
    },
}


def _curves(changes: dict[str, float], good: int = 10, bad: int = 10) -> list[dict[str, float]]:
    lines = [{"kimg": float(number), **HEALTHY} for number in range(good + bad)]
    return [line | (changes if number >= good else {}) for number, line in enumerate(lines)]


def test_a_healthy_run_has_no_findings() -> None:
    assert findings(_curves({}), CONFIG) == []
    assert findings([], CONFIG) == []
    adaptor = [name for name in HEALTHY if "adapted" in name or "depth" in name]
    assert len(adaptor) == 3
    without = [{name: value for name, value in line.items() if name not in adaptor} for line in _curves({})]
    assert findings(without, CONFIG) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"discriminator/loss": 2 * math.log(2)}, "the discriminator is at chance"),
        ({"discriminator/loss": 0.02, "discriminator/r1": 0}, "the discriminator always wins"),
        ({"discriminator/r1": 1.1}, "R1 exceeds"),
        ({"camera/regularizer": 9.5}, "the camera regularizer dominates"),
        ({"generator/adapted_correlation": 0.4}, "the depth adaptor hides the geometry"),
        ({"generator/adapted_correlation": -0.9}, "the depth adaptor hides the geometry"),
        ({"generator/depth_deviation": 0.1}, "the depth adaptor hides the geometry"),
        ({"camera/fov_std": 0.1}, "the learned fov does not vary"),
        ({"camera/pitch_mean": CONFIG.camera.pitch[1] - 0.01}, "the mean learned pitch is at the end"),
    ],
)
def test_a_problem_is_found_with_its_beginning(changes: dict[str, float], text: str) -> None:
    (found,) = findings(_curves(changes), CONFIG)
    assert found.since_kimg == 10 and found.text.startswith(text)
    assert findings(_curves(changes, good=10, bad=2), CONFIG) == [], "a few lines are noise"
    assert findings([*_curves(changes), {"kimg": 20.0, **HEALTHY}], CONFIG) == [], "it is over"


def test_chance_of_the_relativistic_loss_is_that_of_a_coin() -> None:
    config = tiny_config(train={"loss": "relativistic"})
    assert findings(_curves({"discriminator/loss": 0.6}), config) == []
    (found,) = findings(_curves({"discriminator/loss": math.log(2)}), config)
    assert "at chance" in found.text


def test_a_distance_that_rises_again_is_found() -> None:
    curves = _curves({})
    for line, distance in zip(curves[::4], (90.0, 40.0, 45.0, 60.0, 70.0), strict=True):
        line["distance/swd"] = distance
    (found,) = findings(curves, CONFIG)
    assert found.since_kimg == 12 and found.text.startswith("distance/swd stays above 1.3 times its best")


@pytest.mark.parametrize(
    ("measured", "since"),
    [((0.4, 0.9, 0.45, 0.4, 0.3), 8), ((0.9, 0.9, 0.9, 0.9, 0.3), None), ((0.4, 0.4, 0.4, 0.4, 0.6), None)],
    ids=["collapsed", "once", "over"],
)
@pytest.mark.parametrize(("name", "which"), [("in_class", "a class"), ("lowest_class", "the least diverse class")])
def test_a_collapse_is_found(measured: tuple[float, ...], since: float | None, name: str, which: str) -> None:
    curves = _curves({})
    for line, diversity in zip(curves[::4], measured, strict=True):
        line[f"diversity/{name}"] = diversity
    found = [(one.since_kimg, one.text.partition(";")[0]) for one in findings(curves, CONFIG)]
    assert found == ([] if since is None else [(since, f"generated images of {which} are almost alike")])


def test_log_tells_several_problems_oldest_first(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"distance/{name}" for name in "abcdefgh"]
    log = HealthLog(CONFIG, no_log)
    for number in range(len(names) + 2):  # one after the other is twice its best from then on
        distances = {name: 1.0 + (number > place) for place, name in enumerate(names)}
        log({"kimg": float(number), **HEALTHY, **distances}, object() if number == len(names) + 1 else None)
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(" stays")[0] for line in said] == [
        f"train: since {place + 1} thousand images, {name}" for place, name in enumerate(names)
    ]


def test_log_tells_a_problem_once_and_passes_lines_on(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[dict[str, Any]] = []
    log = HealthLog(CONFIG, lambda record, cameras=None: seen.append(record))
    curves = _curves({"camera/fov_std": 0.1})
    for line in curves[:12]:
        log(line)  # lines that are written again
    assert capsys.readouterr().out == ""
    for line in curves[12:]:
        log(line, object())
    assert seen == curves
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and said[0].startswith("train: since 10 thousand images, the learned fov does not vary")
