"""The page of ``threedgp view``: viser's controls and canvas, bound to a painter and a refiner for each visitor."""

from __future__ import annotations

import contextlib
import html
import io
import math
import socket
import traceback
from collections.abc import Sequence
from typing import Any

import viser
from torch import Tensor

from threedgp.camera.geometry import CAMERA_FIELDS
from threedgp.config import CameraConfig
from threedgp.data.images import encode_image
from threedgp.runtime.errors import UserError
from threedgp.visual.viewer_cameras import make_camera, orbit_angles, orbit_position, outside_prior
from threedgp.visual.viewer_pictures import on_page
from threedgp.visual.viewer_refinement import Frame, Order, Refiner
from threedgp.visual.viewer_scenes import Kind, Look, Painter, SceneKey

MOST_SEEDS = 1000
LARGEST = 512
"""Pixels of the finished picture if nothing is said."""
SMALLEST = 8
DRAWN = "as drawn with the seed"
KINDS: dict[str, Kind] = {"Colour": "color", "Depth": "depth", "Normals": "normals"}
BROWSER_FOV = math.radians(45)
"""Of the browser's own camera, which draws nothing but the crosshair of a drag."""
DECIMALS = 4
"""Of angles that the browser reports: rounded, its rounding errors ask for no new picture."""


class LocalServer(viser.ViserServer):
    """A server that stays on this machine: viser can lead the page through a public relay when a page asks for it."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        """Refused."""
        return None


def open_server(host: str, port: int) -> viser.ViserServer:
    """Listen.

    Args:
        host: address to bind to.
        port: 0 = any that is free.

    Raises:
        UserError: the port is taken, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except (OSError, UnicodeError) as error:  # the second: no name of a machine can be so
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--port: cannot listen on {host}:{port} ({reason}); name another one.") from None
    with contextlib.redirect_stdout(io.StringIO()):  # viser announces itself
        server = LocalServer(host=host, port=port, label="3DGP", verbose=False)
    if port and server.get_port() != port:  # somebody took it just now, and viser moved on to the next
        server.stop()
        raise UserError(f"--port: {port} is taken; name another one.")
    return server


def serve(
    painter: Painter, class_names: Sequence[str], title: str, size: int, server: viser.ViserServer
) -> dict[int, Visit]:
    """Show scenes to whoever opens the page; returns at once, the open pages by number.

    Args:
        painter: of the model.
        class_names: by label; none where the model knows no classes.
        title: of the control panel.
        size: pixels along each side of the finished picture; the page may be smaller.
        server: of `open_server`.
    """
    config = painter.generator.camera_config
    server.scene.set_up_direction("+y")
    server.gui.set_panel_label(title)
    server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
    server.gui.main_panel.dock_right()
    start = painter.own_camera(SceneKey(0, None, 1.0))
    server.initial_camera.position = orbit_position(start)
    server.initial_camera.look_at = (0.0, 0.0, 0.0)
    server.initial_camera.fov = BROWSER_FOV
    visits: dict[int, Visit] = {}

    @server.on_client_connect
    def _(client: viser.ClientHandle) -> None:
        client.camera.min_orbit_distance = client.camera.max_orbit_distance = config.radius
        visits[client.client_id] = Visit(client, painter, class_names, size)

    @server.on_client_disconnect
    def _(client: viser.ClientHandle) -> None:
        visit = visits.pop(client.client_id, None)
        if visit:
            visit.refiner.close()

    return visits


class Visit:
    """One open page."""

    def __init__(self, client: viser.ClientHandle, painter: Painter, class_names: Sequence[str], size: int) -> None:
        self.client, self.painter, self.class_names, self.size = client, painter, class_names, size
        self.refiner = Refiner(painter.draw, painter.ladder, self._show, self._fail)
        self._add_controls(client.gui, painter.generator.camera_config)
        client.camera.on_update(self._ask)
        self._take_camera(painter.own_camera(self._scene()))
        self.refiner.ask(self.order())

    def _add_controls(self, gui: viser.GuiApi, config: CameraConfig) -> None:
        named = [f"{label} {name}" for label, name in enumerate(self.class_names)]
        with gui.add_folder("Scene"):
            self.seed = gui.add_slider("Seed", 0, MOST_SEEDS - 1, 1, 0)
            self.chosen = gui.add_dropdown("Class", (DRAWN, *named), initial_value=DRAWN, visible=bool(named))
            self.truncation = gui.add_slider("Truncation", 0.0, 1.0, 0.05, 1.0, hint="1 = full variety, 0 = average")
        with gui.add_folder("Camera"):
            self.fov = gui.add_slider("Field of view", 1.0, 90.0, 0.5, sum(config.fov) / 2, hint="degrees")
            self.look_at_yaw = gui.add_slider("Look-at yaw", -3.14, 3.14, 0.01, 0.0, hint="radians")
            self.look_at_pitch = gui.add_slider("Look-at pitch", 0.0, 3.14, 0.01, 1.57, hint="radians")
            self.look_at_radius = gui.add_slider("Look-at radius", 0.0, 0.5, 0.005, 0.0, hint="from the centre")
            own = gui.add_button("Camera of the scene", hint="from where the model expects it to be seen")
        with gui.add_folder("Show"):
            self.kind = gui.add_dropdown("View", tuple(KINDS), initial_value=next(iter(KINDS)))
            self.note = gui.add_html("")
        picture = gui.add_button("Save picture", icon=viser.Icon.PHOTO)
        self.mesh_button = gui.add_button("Save mesh", icon=viser.Icon.CUBE, hint="GLB, for 3D programs")
        for control in (self.seed, self.chosen, self.truncation, self.fov, self.kind):
            control.on_update(self._ask)
        for control in (self.look_at_yaw, self.look_at_pitch, self.look_at_radius):
            control.on_update(self._ask)
        own.on_click(lambda _: self._take_camera(self.painter.own_camera(self._scene())))
        picture.on_click(lambda _: self._save_picture())
        self.mesh_button.on_click(lambda _: self._save_mesh())

    async def _ask(self, _: Any) -> None:
        # On the server's event loop, so that what was changed last is asked for last.
        self.refiner.ask(self.order())

    def _scene(self) -> SceneKey:
        label = None if self.chosen.value == DRAWN else int(self.chosen.value.split()[0])
        return SceneKey(self.seed.value, label, round(self.truncation.value, DECIMALS))

    def order(self) -> Order:
        """What the page asks for, by its camera and controls."""
        yaw, pitch = (round(angle, DECIMALS) for angle in orbit_angles(self.client.camera.wxyz))
        look = Look(
            self._scene(),
            KINDS[self.kind.value],
            yaw,
            pitch,
            self.fov.value,
            self.look_at_yaw.value,
            self.look_at_pitch.value,
            self.look_at_radius.value,
        )
        page = max(self.client.camera.image_width, SMALLEST), max(self.client.camera.image_height, SMALLEST)
        return Order(look, min(self.size, *page), page)

    def _take_camera(self, own: Tensor) -> None:
        """Move the browser's camera and the sliders to a camera `[8]`."""
        values = dict(zip(CAMERA_FIELDS, own.tolist(), strict=True))
        with self.client.atomic():
            self.client.camera.position = orbit_position(own)
            self.client.camera.look_at = (0.0, 0.0, 0.0)
            for name in ("fov", "look_at_yaw", "look_at_pitch", "look_at_radius"):
                control = getattr(self, name)
                control.value = min(max(values[name], control.min), control.max)

    def _show(self, frame: Frame) -> None:
        self.client.scene.set_background_image(on_page(frame.picture, *frame.order.page), format="png")
        self.note.content = self._words(frame)

    def _words(self, frame: Frame) -> str:
        look, side = frame.order.look, len(frame.picture)
        config = self.painter.generator.camera_config
        outside = outside_prior(config, make_camera(config, look.camera_fields))
        lines = [f"{side} × {side} pixels, {frame.seconds:.2g} s" + ("" if frame.is_final else " …")]
        label = self.painter.label(look.scene)
        if label is not None:
            lines.insert(0, f"class {label} {html.escape(self.class_names[label])}")
        lines.append(f"yaw {look.yaw:.3f}, pitch {look.pitch:.3f}, fov {look.fov:.1f}")
        if outside:
            fields = ", ".join(outside).replace("_", " ")
            lines.append(
                f'<span style="color:#f59e0b">Outside of the prior: {fields}. The model never saw that.</span>'
            )
        return f'<div style="padding:0 1em 0.8em;font-size:0.85em;line-height:1.5">{"<br>".join(lines)}</div>'

    def _fail(self, error: Exception) -> None:
        traceback.print_exception(error)
        self.note.content = f'<div style="padding:0 1em 0.8em">Not drawn: {html.escape(str(error))}</div>'

    def _name(self, scene: SceneKey) -> str:
        label = self.painter.label(scene)
        return f"seed{scene.seed:04d}" + ("" if label is None else f"_class{label:03d}")

    def _save_picture(self) -> None:
        """Draw it at full size, whatever the page shows by now."""
        look = self.order().look
        picture = self.painter.draw(look, self.size)
        name = self._name(look.scene) + ("" if look.kind == "color" else f"_{look.kind}")
        self.client.send_file_download(f"{name}.png", encode_image(picture, "png"), save_immediately=True)

    def _save_mesh(self) -> None:
        scene = self._scene()
        note = self.client.add_notification("Mesh", "Being made …", loading=True, with_close_button=False)
        self.mesh_button.disabled = True
        try:
            self.client.send_file_download(f"{self._name(scene)}.glb", self.painter.mesh(scene), save_immediately=True)
            note.body = "Saved."
        except UserError as error:
            note.body = str(error)
        finally:
            self.mesh_button.disabled = False
            note.loading, note.with_close_button, note.auto_close_seconds = False, True, 8.0
