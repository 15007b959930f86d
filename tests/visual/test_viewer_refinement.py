"""What was asked for last is drawn, from a draft to its end; what nobody waits for is given up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np
import pytest

from threedgp.visual.viewer_ladder import Ladder
from threedgp.visual.viewer_refinement import Frame, Order, Refiner
from threedgp.visual.viewer_scenes import Look, SceneKey

PATIENCE = 60
"""Seconds; a test that waits so long has failed."""


def order(seed: int, size: int = 64) -> Order:
    return Order(Look(SceneKey(seed, None, 1.0), "color", 0.0, 1.5, 20.0, 0.0, 1.57, 0.0), size, (640, 480))


class Studio:
    """A refiner whose painter draws only when the test lets it."""

    def __init__(self) -> None:
        self.begun: queue.Queue[tuple[int, int]] = queue.Queue()
        self.go: queue.Queue[Exception | None] = queue.Queue()
        self.frames: queue.Queue[Frame] = queue.Queue()
        self.errors: queue.Queue[Exception] = queue.Queue()
        ladder = Ladder()
        ladder.measured(1, 1.0)  # so slow that every picture begins with the smallest
        self.refiner = Refiner(self.draw, ladder, self.frames.put, self.errors.put)

    def draw(self, look: Look, size: int, is_stale: Callable[[], bool]) -> np.ndarray | None:
        self.begun.put((look.scene.seed, size))
        said = self.go.get(timeout=PATIENCE)
        if said:
            raise said
        return None if is_stale() else np.full((size, size, 3), look.scene.seed, np.uint8)

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
    made.refiner.close()


def test_from_a_draft_to_the_end(studio):
    studio.refiner.ask(order(3))
    for size in (16, 32, 64):
        assert studio.next_begun() == (3, size)
        studio.go.put(None)
        frame = studio.next_frame()
        assert frame.picture.shape == (size, size, 3) and frame.order == order(3)
        assert frame.is_final == (size == 64)
        assert frame.seconds >= 0


def test_the_newest_replaces_what_is_under_way(studio):
    studio.refiner.ask(order(1))
    assert studio.next_begun() == (1, 16)
    studio.go.put(None)
    assert studio.next_frame().order == order(1)
    assert studio.next_begun() == (1, 32)
    studio.refiner.ask(order(2))
    studio.refiner.ask(order(5))
    studio.go.put(None)
    assert studio.next_begun() == (5, 16), "neither the rest of 1 nor 2"
    studio.go.put(None)
    assert studio.next_frame().order == order(5)


def test_a_draft_is_shown_even_if_something_newer_waits(studio):
    """Otherwise nothing moves while somebody drags."""
    studio.refiner.ask(order(1))
    studio.next_begun()
    studio.refiner.ask(order(2))
    studio.go.put(None)
    assert studio.next_frame().order == order(1)
    assert studio.next_begun() == (2, 16)


def test_the_same_order_again_draws_nothing_again(studio):
    studio.refiner.ask(order(1, size=16))
    studio.next_begun()
    studio.go.put(None)
    assert studio.next_frame().is_final
    studio.refiner.ask(order(1, size=16))
    studio.refiner.ask(order(2, size=16))
    assert studio.next_begun() == (2, 16)


def test_an_error_is_told_and_the_next_order_drawn(studio):
    studio.refiner.ask(order(1))
    studio.next_begun()
    studio.go.put(MemoryError("too large"))
    assert str(studio.errors.get(timeout=PATIENCE)) == "too large"
    studio.refiner.ask(order(2))
    assert studio.next_begun() == (2, 16)


def test_closing_ends_the_thread(studio):
    studio.refiner.ask(order(1))
    studio.next_begun()
    closing = threading.Thread(target=studio.refiner.close)
    closing.start()
    studio.go.put(None)
    closing.join(timeout=PATIENCE)
    assert not closing.is_alive() and studio.frames.empty()
