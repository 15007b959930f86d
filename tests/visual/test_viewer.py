"""An image stands on the page unstretched."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from threedgp.visual.viewer import BACKGROUND, MAX_PAGE, MIN_SIZE, on_page, open_server, page_size


@pytest.mark.parametrize(("width", "height"), [(960, 800), (400, 800), (512, 512), (1920, 1080), (37, 1000), (1, 1)])
@pytest.mark.parametrize("size", [16, 512, 700])
def test_shape_of_the_page_and_a_square_image(width, height, size):
    page = on_page(np.full((size, size, 3), 255, np.uint8), width, height)
    side = min(page.shape[:2])
    assert page.shape[0] <= height and page.shape[1] <= width
    assert page.shape[1] / page.shape[0] == pytest.approx(width / height, rel=1 / side)
    rows, columns = (page[..., 0] == 255).any(axis=1), (page[..., 0] == 255).any(axis=0)
    assert rows.sum() == columns.sum() == side
    assert ((page == 255) | (page == BACKGROUND)).all()
    assert rows[0], "at the top"
    assert abs(int(columns.argmax()) - int(columns[::-1].argmax())) <= 1, "in the middle"


@pytest.mark.parametrize(("width", "height"), [(960, 800), (400, 800), (1920, 1080)])
def test_two_images_side_by_side(width, height):
    pair = np.concatenate([np.full((64, 64, 3), 255, np.uint8), np.full((64, 64, 3), 100, np.uint8)], axis=1)
    page = on_page(pair, width, height)
    side = min(width // 2, height, 512)
    assert page.shape[1] / page.shape[0] == pytest.approx(width / height, rel=2 / side)
    assert [int((page[0, :, 0] == level).sum()) for level in (255, 100)] == pytest.approx([side, side], abs=9), (
        "blended"
    )
    assert int((page[:, page.shape[1] // 2 - 20, 0] == 255).sum()) == side, "square"


def test_an_image_of_the_pages_own_size_is_untouched():
    picture = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    assert (on_page(picture, 600, 900)[:600] == picture).all()


@pytest.mark.parametrize(
    ("width", "height"), [(10**9, 10**9), (10**12, 1), (0, 0), (-5, 3), (1920, 1080), (7680, 4320)]
)
def test_a_canvas_is_bounded(width, height):
    size = page_size(width, height)
    assert all(MIN_SIZE <= side <= MAX_PAGE for side in size)
    if min(width, height) > 1000:
        assert size[0] / size[1] == pytest.approx(width / height, rel=1e-3)


@pytest.fixture
def server():
    opened = open_server("127.0.0.1", 0)
    yield opened
    opened.stop()


def _answer(server, *lines: str) -> str:
    """Status of the answer to a request of these lines."""
    with socket.create_connection(("127.0.0.1", server.get_port())) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection.recv(100).decode(errors="replace").split()[1]


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}", "101"),
        ("localhost:{port}", "http://localhost:{port}", "101"),
        ("127.0.0.1:{port}", None, "101"),  # not a browser
        ("127.0.0.1:{port}", "http://127.0.0.1:1", "403"),
        ("127.0.0.1:{port}", "https://site.example", "403"),
        ("127.0.0.1:{port}", "null", "403"),
        ("site.example:{port}", "http://site.example:{port}", "403"),  # its name leads to this machine
    ],
)
def test_only_its_own_page_may_open_a_connection(server, host, origin, status):
    lines = ["GET / HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    lines += [f"Origin: {origin}"] * (origin is not None)
    assert _answer(server, *(line.format(port=server.get_port()) for line in lines)) == status


@pytest.mark.parametrize("path", ["/../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/..\\..\\setup.py"])
def test_no_path_leads_out_of_the_page(server, path):
    assert _answer(server, f"GET {path} HTTP/1.1", "Host: localhost") == "404"
