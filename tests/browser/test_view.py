"""``threedgp view`` in a real browser: it draws what the command line draws, and follows mouse, sliders and buttons."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import trimesh
from PIL import Image

from films import decode
from threedgp.camera.geometry import FOV, PITCH, YAW
from threedgp.data.images import decode_image
from threedgp.models.initialization import initial_generator
from threedgp.visual.viewer import BETWEEN_SEEDS, Session, open_server, serve
from threedgp.visual.viewer_scenes import SceneKey, SceneRenderer

SIZE = 96
FINISHED = f"{SIZE} × {SIZE} pixels"
CLASSES = ["box", "<b>ball"]
CHANGED = 1.0
"""Mean difference of two images, in levels, that is more than noise."""
PATIENCE = 90.0
"""Seconds for an image that the page has and has not drawn yet."""


class Open(NamedTuple):
    """A page and the server's side of it."""

    address: str
    renderer: SceneRenderer
    sessions: dict[int, Session]


@pytest.fixture
def opened(tiny_generator) -> Iterator[Open]:
    server = open_server("127.0.0.1", 0)
    renderer = SceneRenderer(tiny_generator)
    sessions = serve(renderer, CLASSES, "tiny", SIZE, server)
    yield Open(f"http://127.0.0.1:{server.get_port()}", renderer, sessions)
    server.stop()


@pytest.fixture
def watched(open_page, opened):
    """The page, once its first image is finished."""
    one = open_page(1280)
    one.page.goto(opened.address)
    one.page.get_by_text(FINISHED).wait_for()
    return one


def screen(page) -> np.ndarray:
    """The square in the middle of the canvas, which shows the image, at `SIZE` pixels."""
    box = page.locator("canvas").first.bounding_box()
    canvas = decode_image(page.screenshot(clip=box))
    height, width = canvas.shape[:2]
    side = min(height, width)
    left = (width - side) // 2
    return cv2.resize(canvas[:side, left : left + side], (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second).mean())


def wait_until(page, condition: Callable[[], bool]) -> None:
    """Let the page work until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        page.wait_for_timeout(100)


def settled(page, session: Session, renderer: SceneRenderer) -> np.ndarray:
    """The screen, once it shows the finished image of what the page asks for by now."""
    seen = np.zeros(0)

    def shows_it() -> bool:
        nonlocal seen
        seen = screen(page)
        return difference(seen, renderer.draw(session.request().settings, SIZE)) < CHANGED

    wait_until(page, shows_it)
    return seen


def only(sessions: dict[int, Session]) -> Session:
    (session,) = sessions.values()
    return session


def close_notices(page) -> None:
    """viser warns of WebGL without a GPU, over the image."""
    for button in page.locator(".mantine-Notification-closeButton").all():
        button.click()


def test_image_mouse_sliders_and_views(watched, opened):
    """One page for all of it: opening one takes longest."""
    page, renderer, session = watched.page, opened.renderer, only(opened.sessions)
    close_notices(page)
    first = settled(page, session, renderer)
    scene = SceneKey(0, None, 1.0)
    own, order = renderer.own_camera(scene), session.request()
    assert order.settings.scene == scene and order.size == SIZE
    assert order.settings.camera[:2] == pytest.approx(own[:2].tolist(), abs=1e-3)
    assert order.settings.camera[FOV] == pytest.approx(own[3].item(), abs=1e-3)

    box = page.locator("canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y - 20, steps=5)
    page.mouse.up()
    turned = settled(page, session, renderer)
    moved = session.request().settings
    assert moved.camera[YAW] > order.settings.camera[YAW] + 0.05, "what is in front follows the mouse to the right"
    assert moved.camera[PITCH] > order.settings.camera[PITCH] + 0.01, "and upwards, as seen from further below"
    assert difference(turned, first) > CHANGED

    seed = page.get_by_role("textbox").first
    seed.fill("7")
    seed.press("Enter")
    wait_until(page, lambda: session.request().settings.scene.seed == 7)
    other = settled(page, session, renderer)
    assert difference(other, turned) > CHANGED
    settings = session.request().settings
    assert settings.camera[:2] == moved.camera[:2], "the camera stays"

    assert session.yaw.value == pytest.approx(moved.camera[YAW], abs=0.011), "the slider follows the mouse"
    boxes = page.get_by_role("textbox").all()
    yaw = next(box for box in boxes if box.input_value() == f"{session.yaw.value:g}")
    yaw.fill("-0.5")
    yaw.press("Enter")
    wait_until(page, lambda: session.request().settings.camera[YAW] == pytest.approx(-0.5, abs=1e-3))
    turned = settled(page, session, renderer)
    assert difference(turned, other) > CHANGED
    session.other.value, session.share.value = 3, 0.5
    assert session.request().settings.scene == SceneKey(7, None, 1.0, 3, 0.5)
    assert difference(settled(page, session, renderer), turned) > CHANGED
    session.share.value = 0.0

    session.kind.value = "Depth"
    assert difference(settled(page, session, renderer), other) > CHANGED
    session.fov.value = 80.0
    page.get_by_text("Outside of the prior: fov").wait_for()
    session.chosen.value = "1 <b>ball"
    page.get_by_text("class 1 <b>ball").wait_for()

    local = (opened.address, opened.address.replace("http", "ws"), f"blob:{opened.address}", "data:")
    assert watched.requests and all(request.startswith(local) for request in watched.requests), watched.requests
    assert watched.errors == []


def test_saves_image_mesh_and_film(watched, opened, tmp_path, monkeypatch):
    monkeypatch.setattr("threedgp.visual.viewer_scenes.MESH_RESOLUTION", 16)
    monkeypatch.setattr("threedgp.visual.viewer_scenes.NUM_FRAMES", 3)
    page, renderer, session = watched.page, opened.renderer, only(opened.sessions)
    label = renderer.label(SceneKey(0, None, 1.0))
    for button, suffix in (("Save image", "png"), ("Save mesh", "glb")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == f"seed0000_class{label:03d}.{suffix}"
        download.value.save_as(tmp_path / f"saved.{suffix}")
    saved = decode_image(Path(tmp_path / "saved.png").read_bytes())
    assert (saved == renderer.draw(session.request().settings, SIZE)).all()
    assert trimesh.load(tmp_path / "saved.glb", force="mesh").is_watertight
    assert Image.open(tmp_path / "saved.png").text["class"] == f"{label} {CLASSES[label]}"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save film").click()
    assert download.value.suggested_filename == f"seed0000_class{label:03d}_front_circle.mp4"
    download.value.save_as(tmp_path / "saved.mp4")
    assert decode(tmp_path / "saved.mp4").shape == (3, SIZE, SIZE, 3)

    session.other.value, session.share.value = 3, 0.3
    with page.expect_download() as download:
        page.get_by_role("button", name="Save image").click()
    assert download.value.suggested_filename == f"seed0000_class{label:03d}_to0003_0.3.png"
    download.value.save_as(tmp_path / "between.png")
    text = Image.open(tmp_path / "between.png").text
    assert [text[key] for key in ("seed", "other seed", "share")] == ["0", "3", "0.3"]
    session.path.value = BETWEEN_SEEDS
    with page.expect_download() as download:
        page.get_by_role("button", name="Save film").click()
    assert download.value.suggested_filename == f"seed0000_class{label:03d}_to0003_interpolation.mp4", "all shares"


def test_two_models_side_by_side_on_a_phone(tiny_generator, open_page):
    server = open_server("127.0.0.1", 0)
    renderers = [SceneRenderer(tiny_generator, name="first"), SceneRenderer(tiny_generator, name="second")]
    sessions = serve(renderers[0], CLASSES, "tiny", SIZE, server, beside=renderers[1])
    page = open_page(400).page
    page.goto(f"http://127.0.0.1:{server.get_port()}")
    page.get_by_text("first | second").wait_for()
    session = only(sessions)
    assert session.request().size == SIZE
    pair = session._draw(session.request().settings, SIZE)
    assert (pair == np.tile(renderers[0].draw(session.request().settings, SIZE), (1, 2, 1))).all()
    other = initial_generator(tiny_generator.camera_config, tiny_generator.model_config, 2, [0.5, 0.5], seed=1)
    renderers[1].replace(other.eval(), "trained further")
    session.refresh()
    page.get_by_text("first | trained further").wait_for()
    settings = session.request().settings
    assert difference(session._draw(settings, SIZE)[:, SIZE:], pair[:, SIZE:]) > CHANGED
    button = page.get_by_role("button", name="Save image")
    assert button.is_visible()
    page.get_by_text("tiny", exact=True).click()
    button.wait_for(state="hidden")
    server.stop()


def test_two_visitors_look_at_different_scenes(watched, opened, open_page):
    second = open_page(400)
    second.page.goto(opened.address)
    second.page.get_by_text("96 × 96 pixels").wait_for()
    first_visit, second_visit = opened.sessions.values()
    second_visit.seed.value = 5
    assert (first_visit.request().settings.scene.seed, second_visit.request().settings.scene.seed) == (0, 5)
    watched.page.close()
    wait_until(second.page, lambda: len(opened.sessions) == 1)
    assert list(opened.sessions.values()) == [second_visit], "a closed page is forgotten"
