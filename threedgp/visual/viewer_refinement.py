"""Progressive rendering for one page: a draft first, then larger images, until something else is requested."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from threedgp.visual.viewer_scenes import ViewSettings

DRAFT_SECONDS = 0.08
"""Time limit of the first image, so that dragging feels responsive."""
CHUNK_SECONDS = 0.1
"""Time between two checks of whether the image is still needed."""
MIN_SIZE = 16
"""Pixels along each side of a draft."""
INITIAL_SECONDS_PER_RAY = 2e-5
"""Before anything was measured."""


class RenderSpeed:
    """Sizes from a draft to the final image, each about twice the previous one, chosen by the measured speed."""

    def __init__(self) -> None:
        self.seconds_per_ray = INITIAL_SECONDS_PER_RAY

    def measured(self, rays: int, seconds: float) -> None:
        """Update the speed: `rays` took `seconds`."""
        self.seconds_per_ray = seconds / max(rays, 1)

    def sizes(self, size: int) -> list[int]:
        """Pixels along each side of the images to render one after the other; the last is `size`."""
        sizes = [size]
        while sizes[0] // 2 >= MIN_SIZE and sizes[0] ** 2 * self.seconds_per_ray > DRAFT_SECONDS:
            sizes.insert(0, sizes[0] // 2)
        return sizes

    def chunk(self) -> int:
        """Number of rays to render between two checks of whether the image is still needed."""
        return max(int(CHUNK_SECONDS / max(self.seconds_per_ray, 1e-12)), MIN_SIZE**2)


class Request(NamedTuple):
    """A requested image."""

    settings: ViewSettings
    size: int
    """Pixels along each side of the final image."""
    page: tuple[int, int]
    """Width and height of the page in pixels; an image for a page of another shape would be shown stretched."""


class Frame(NamedTuple):
    """A rendered image of a request, a draft or final."""

    request: Request
    image: np.ndarray
    """uint8 `[R, R, 3]`"""
    seconds: float
    """Time since rendering of this request began."""

    @property
    def is_final(self) -> bool:
        """Whether this is the final image."""
        return len(self.image) >= self.request.size


Draw = Callable[["ViewSettings", int, Callable[[], bool]], np.ndarray | None]
"""`SceneRenderer.draw`: the image of these settings and this size; None as soon as the last argument returns True."""


class ProgressiveRenderer:
    """A thread that renders the latest request of a page, from a draft to the final image.

    A draft is always finished, so that the image moves while the user drags; larger images are canceled at once.
    """

    def __init__(
        self, draw: Draw, speed: RenderSpeed, show: Callable[[Frame], None], fail: Callable[[Exception], None]
    ) -> None:
        """`show` is called with every image, on the rendering thread; `fail` with the error of a request, after which
        the next request is rendered as usual."""
        self._draw, self._speed, self._show, self._fail = draw, speed, show, fail
        self._latest: Request | None = None
        self._current: Request | None = None
        self._closed = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="progressive", daemon=True)
        self._thread.start()

    def request(self, request: Request) -> None:
        """Render this request from now on; repeating the current request changes nothing."""
        with self._change:
            self._latest = request
            self._change.notify()

    def close(self) -> None:
        """Cancel rendering and wait for the thread to end."""
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _is_stale(self) -> bool:
        return self._closed or self._latest != self._current

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(self._is_stale)
                if self._closed:
                    return
                self._current = self._latest
            try:
                self._refine(self._current)
            except Exception as error:
                self._fail(error)

    def _refine(self, request: Request) -> None:
        start = time.perf_counter()
        for step, size in enumerate(self._speed.sizes(request.size)):
            image = self._draw(request.settings, size, self._is_stale if step else lambda: self._closed)
            if image is None:
                return
            self._show(Frame(request, image, time.perf_counter() - start))
            if self._is_stale():
                return
