"""A picture that is sharpened step by step until something else is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from threedgp.visual.viewer_ladder import Ladder
from threedgp.visual.viewer_scenes import Look


class Order(NamedTuple):
    """A picture, how large it shall become, and where it is shown."""

    look: Look
    size: int
    page: tuple[int, int]
    """Width and height of the page in pixels. A picture for a page of another shape would be shown stretched."""


class Frame(NamedTuple):
    """A picture on the way to what was ordered, or at its end."""

    order: Order
    picture: np.ndarray
    """uint8 `[R, R, 3]`"""
    seconds: float
    """Since drawing this order began."""

    @property
    def is_final(self) -> bool:
        """Whether nothing sharper comes."""
        return len(self.picture) >= self.order.size


class Draw(Protocol):
    """`Painter.draw`."""

    def __call__(self, look: Look, size: int, is_stale: Callable[[], bool]) -> np.ndarray | None:
        """Return the picture, or None as soon as `is_stale`."""


class Refiner:
    """One thread that draws for one person: first a draft, then larger and larger, always what was asked for last.

    A draft is never given up, so that the picture moves while somebody drags; what follows is, at once.
    """

    def __init__(
        self, draw: Draw, ladder: Ladder, show: Callable[[Frame], None], fail: Callable[[Exception], None]
    ) -> None:
        """
        Args:
            draw: makes a picture.
            ladder: the sizes on the way.
            show: takes every picture, on the thread of the refiner.
            fail: takes what went wrong with an order; the next one is tried again.
        """
        self._draw, self._ladder, self._show, self._fail = draw, ladder, show, fail
        self._asked: Order | None = None
        self._begun: Order | None = None
        self._closed = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="refiner", daemon=True)
        self._thread.start()

    def ask(self, order: Order) -> None:
        """Draw this from now on. The same order again changes nothing."""
        with self._change:
            self._asked = order
            self._change.notify()

    def close(self) -> None:
        """Give up and end the thread; returns when it has ended."""
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _is_stale(self) -> bool:
        return self._closed or self._asked != self._begun

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(self._is_stale)
                if self._closed:
                    return
                self._begun = self._asked
            try:
                self._refine(self._begun)
            except Exception as error:
                self._fail(error)

    def _refine(self, order: Order) -> None:
        began = time.perf_counter()
        for rung, size in enumerate(self._ladder.rungs(order.size)):
            picture = self._draw(order.look, size, self._is_stale if rung else self._is_closed)
            if picture is None:
                return
            self._show(Frame(order, picture, time.perf_counter() - began))
            if self._is_stale():
                return

    def _is_closed(self) -> bool:
        return self._closed
