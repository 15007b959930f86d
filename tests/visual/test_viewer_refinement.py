"""The latest request is rendered, from a draft to the final image; older ones are canceled."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from threedgp.visual.viewer_refinement import (
    CHUNK_SECONDS,
    DRAFT_SECONDS,
    MIN_SIZE,
    Frame,
    ProgressiveRenderer,
    RenderSpeed,
    Request,
)
from threedgp.visual.viewer_scenes import SceneKey, ViewSettings


def speed(seconds_per_ray: float) -> RenderSpeed:
    made = RenderSpeed()
    made.measured(1000, 1000 * seconds_per_ray)
    return made


@pytest.mark.parametrize("size", [8, 16, 100, 512, 777])
@pytest.mark.parametrize("seconds_per_ray", [1e-9, 1e-6, 1e-4, 1e-1])
def test_sizes(size, seconds_per_ray):
    sizes = speed(seconds_per_ray).sizes(size)
    assert sizes[-1] == size
    assert sizes == sorted(set(sizes))
    assert all(low == high // 2 for low, high in pairwise(sizes))
    first = sizes[0]
    assert first == size or first >= MIN_SIZE
    assert first**2 * seconds_per_ray <= DRAFT_SECONDS or first < 2 * MIN_SIZE
    if len(sizes) > 1:
        assert sizes[1] ** 2 * seconds_per_ray > DRAFT_SECONDS, "no draft where there is time for more"


def test_a_fast_machine_needs_no_draft():
    assert speed(1e-8).sizes(512) == [512]


def test_speed_follows_what_is_measured():
    made = speed(1e-3)
    made.measured(100, 100 * 1e-5)
    assert made.seconds_per_ray == pytest.approx(1e-5)
    assert made.chunk() == pytest.approx(CHUNK_SECONDS / 1e-5, rel=0.01)
    assert speed(10.0).chunk() == MIN_SIZE**2


PATIENCE = 60
"""Seconds; a test that waits so long has failed."""


def request(seed: int, size: int = 64) -> Request:
    camera = (0.0, 1.5, 0.0, 20.0, 1.0, 0.0, 1.57, 0.0)
    return Request(ViewSettings(SceneKey(seed, None, 1.0), "color", camera), size, (640, 480))


class Studio:
    """A progressive whose renderer draws only when the test lets it."""

    def __init__(self) -> None:
        self.begun: queue.Queue[tuple[int, int]] = queue.Queue()
        self.go: queue.Queue[Exception | None] = queue.Queue()
        self.frames: queue.Queue[Frame] = queue.Queue()
        self.errors: queue.Queue[Exception] = queue.Queue()
        speed = RenderSpeed()
        speed.measured(1, 1.0)  # so slow that every image begins with the smallest
        self.progressive = ProgressiveRenderer(self.draw, speed, self.frames.put, self.errors.put)

    def draw(self, settings: ViewSettings, size: int, is_stale: Callable[[], bool]) -> np.ndarray | None:
        self.begun.put((settings.scene.seed, size))
        said = self.go.get(timeout=PATIENCE)
        if said:
            raise said
        return None if is_stale() else np.full((size, size, 3), settings.scene.seed, np.uint8)

    def next_begun(self) -> tuple[int, int]:
        return self.begun.get(timeout=PATIENCE)

    def next_frame(self) -> Frame:
        return self.frames.get(timeout=PATIENCE)


@pytest.fixture
def studio():
    made = Studio()
    yield made
    for _ in range(8):
        made.go.put(None)
    made.progressive.close()


def test_from_a_draft_to_the_end(studio):
    studio.progressive.request(request(3))
    for size in (16, 32, 64):
        assert studio.next_begun() == (3, size)
        studio.go.put(None)
        frame = studio.next_frame()
        assert frame.image.shape == (size, size, 3) and frame.request == request(3)
        assert frame.is_final == (size == 64)
        assert frame.seconds >= 0


def test_the_newest_replaces_what_is_under_way(studio):
    studio.progressive.request(request(1))
    assert studio.next_begun() == (1, 16)
    studio.go.put(None)
    assert studio.next_frame().request == request(1)
    assert studio.next_begun() == (1, 32)
    studio.progressive.request(request(2))
    studio.progressive.request(request(5))
    studio.go.put(None)
    assert studio.next_begun() == (5, 16), "neither the rest of 1 nor 2"
    studio.go.put(None)
    assert studio.next_frame().request == request(5)


def test_a_draft_is_shown_even_if_something_newer_waits(studio):
    """Otherwise nothing moves while somebody drags."""
    studio.progressive.request(request(1))
    studio.next_begun()
    studio.progressive.request(request(2))
    studio.go.put(None)
    assert studio.next_frame().request == request(1)
    assert studio.next_begun() == (2, 16)


def test_the_same_order_again_draws_nothing_again(studio):
    studio.progressive.request(request(1, size=16))
    studio.next_begun()
    studio.go.put(None)
    assert studio.next_frame().is_final
    studio.progressive.request(request(1, size=16))
    studio.progressive.request(request(2, size=16))
    assert studio.next_begun() == (2, 16)


def test_an_error_is_told_and_the_next_order_drawn(studio):
    studio.progressive.request(request(1))
    studio.next_begun()
    studio.go.put(MemoryError("too large"))
    assert str(studio.errors.get(timeout=PATIENCE)) == "too large"
    studio.progressive.request(request(2))
    assert studio.next_begun() == (2, 16)


def test_closing_ends_the_thread(studio):
    studio.progressive.request(request(1))
    studio.next_begun()
    closing = threading.Thread(target=studio.progressive.close)
    closing.start()
    studio.go.put(None)
    closing.join(timeout=PATIENCE)
    assert not closing.is_alive() and studio.frames.empty()
