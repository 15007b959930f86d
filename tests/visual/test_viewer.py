"""A picture stands on the page unstretched."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.visual.viewer import BACKGROUND, on_page


@pytest.mark.parametrize(("width", "height"), [(960, 800), (400, 800), (512, 512), (1920, 1080), (37, 1000), (1, 1)])
@pytest.mark.parametrize("size", [16, 512, 700])
def test_shape_of_the_page_and_a_square_picture(width, height, size):
    page = on_page(np.full((size, size, 3), 255, np.uint8), width, height)
    side = min(page.shape[:2])
    assert page.shape[0] <= height and page.shape[1] <= width
    assert page.shape[1] / page.shape[0] == pytest.approx(width / height, rel=1 / side)
    rows, columns = (page[..., 0] == 255).any(axis=1), (page[..., 0] == 255).any(axis=0)
    assert rows.sum() == columns.sum() == side
    assert ((page == 255) | (page == BACKGROUND)).all()
    assert rows[0], "at the top"
    assert abs(int(columns.argmax()) - int(columns[::-1].argmax())) <= 1, "in the middle"


def test_a_picture_of_the_pages_own_size_is_untouched():
    picture = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    assert (on_page(picture, 600, 900)[:600] == picture).all()
