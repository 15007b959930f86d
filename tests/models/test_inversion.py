"""Inversion on images whose scene is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from threedgp.camera.geometry import YAW
from threedgp.models import inversion
from threedgp.models.generator import Generator
from threedgp.models.initialization import initial_generator
from threedgp.models.inversion import Inversion, image_distance, invert, tune
from threedgp.models.loading import load_model
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.progress import Progress
from training.worlds import kind_config

SIZE = 16


@pytest.fixture(scope="module")
def demo(root) -> Generator:
    return load_model(root / "threedgp" / "demo", torch.device("cpu"))


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inversion, "CANDIDATES", 32)


def an_image(generator: Generator) -> tuple[Tensor, int]:
    """An image of a scene that is none of the candidates, and its class."""
    z, labels, prior = sample_scenes(generator, 1, 1, start=3)
    with torch.inference_mode():
        w = generator.map(z, labels, cameras=prior)
        image = generator.render(generator.make_content(w), generator.posterior(prior, z, labels), SIZE).rgb
    return image.clone(), int(labels)


def distance(generator: Generator, w: Tensor, camera: Tensor, target: Tensor) -> float:
    with torch.inference_mode():
        return float(image_distance(generator.render(generator.make_content(w), camera, SIZE).rgb, target))


def test_distance_is_the_mean_difference_over_scales() -> None:
    one, other = torch.zeros(2, 3, 8, 8), torch.ones(1, 3, 8, 8)
    torch.testing.assert_close(image_distance(one, other), torch.full((2,), 4.0))
    checkers = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1  # its mean over 2 x 2 pixels is 0
    assert image_distance(checkers.expand(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)).item() == 1.0


def test_found_scene_is_closer_than_the_start_and_tuning_is_closer_still(demo: Generator) -> None:
    target, label = an_image(demo)
    found = invert(demo, target, label, steps=40, bar=Progress())
    start, end = (distance(demo, *pair, target) for pair in (found.start, (found.w, found.camera)))
    assert end < 0.7 * start
    low, high = demo.camera_config.yaw
    assert low <= found.camera[0, YAW] <= high
    before = {name: weight.clone() for name, weight in demo.state_dict().items()}
    tuned = tune(demo, target, found, steps=20, bar=Progress())
    assert distance(tuned, found.w, found.camera, target) < 0.9 * end
    assert all(torch.equal(weight, before[name]) for name, weight in demo.state_dict().items())
    assert not any(weight.requires_grad for weight in tuned.parameters())

    again = invert(demo, target, label, steps=40, bar=Progress())
    assert torch.equal(again.w, found.w) and torch.equal(again.camera, found.camera)


def test_the_first_step_sees_the_start_whatever_camera_a_normal_prior_drew(monkeypatch: pytest.MonkeyPatch) -> None:
    config = kind_config("epigraf", camera={"prior": "normal", "yaw": (-0.01, 0.01)})
    generator = initial_generator(config.camera, config.model, 0, [], seed=0).eval().requires_grad_(False)
    seen, render = [], inversion._render
    monkeypatch.setattr(inversion, "_render", lambda *given: seen.append(given[2].detach()) or render(*given))
    found = invert(generator, torch.zeros(1, 3, SIZE, SIZE), None, steps=1, bar=Progress())
    assert found.start[1][0, YAW].abs() > 0.01, "beyond the bounds, which do not limit this prior"
    assert torch.equal(seen[-1], found.start[1])


@pytest.mark.parametrize("kind", ["epigraf", "eg3d", "volumegan", "stylenerf"])
def test_tuning_of_other_kinds(kind: str) -> None:
    config = kind_config(kind)
    generator = initial_generator(config.camera, config.model, 0, None, seed=0).eval().requires_grad_(False)
    z, _, camera = sample_scenes(generator, 1, 0)
    found = Inversion(generator.map(z, cameras=camera), camera, (z, camera))
    target = torch.full((1, 3, SIZE, SIZE), -0.5)
    tuned = tune(generator, target, found, steps=20, bar=Progress())
    assert distance(tuned, found.w, camera, target) < 0.9 * distance(generator, found.w, camera, target)
    both = zip(tuned.mapping.parameters(), generator.mapping.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in both)


def test_no_steps_give_the_most_similar_random_scene(demo: Generator) -> None:
    target, label = an_image(demo)
    found = invert(demo, target, label, steps=0, bar=Progress())
    assert torch.equal(found.w, found.start[0]) and torch.equal(found.camera, found.start[1])
    z, labels, prior = sample_scenes(demo, 32, 0, labels=[label] * 32)
    with torch.inference_mode():
        styles, cameras = demo.map(z, labels, cameras=prior), demo.posterior(prior, z, labels)
    distances = [distance(demo, styles[i, None], cameras[i, None], target) for i in range(32)]
    best = min(range(32), key=distances.__getitem__)
    torch.testing.assert_close(found.w[0], styles[best])
