"""The page of ``threedgp view``: viser's controls and canvas, with a progressive renderer for each open page."""

from __future__ import annotations

import contextlib
import html
import io
import math
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import cv2
import numpy as np
import torch
import viser
import websockets.asyncio.server as websockets_server
from scipy.spatial.transform import Rotation
from torch import Tensor
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request as HttpRequest

from threedgp.camera.geometry import CAMERA_FIELDS, PITCH, PRIOR_FIELDS, RADIUS, YAW, spherical_to_cartesian
from threedgp.camera.trajectories import PATHS
from threedgp.config import CameraConfig
from threedgp.data.images import encode_image
from threedgp.runtime.errors import UserError
from threedgp.visual.grids import png_with_text, scene_text
from threedgp.visual.video import SUFFIX
from threedgp.visual.viewer_refinement import Frame, ProgressiveRenderer, Request
from threedgp.visual.viewer_scenes import LEARNED_SHARE, Kind, SceneKey, SceneRenderer, ViewSettings

NUM_SEEDS = 1000
DEFAULT_SIZE = 512
"""Pixels along each side of the final image by default."""
MIN_SIZE = 8
MIN_SENT = 512
"""Pixels. Smaller images are enlarged here, since the browser would blend them with the background at the border."""
BACKGROUND = 24
"""Gray level beside the image, if the page is wider or higher."""
RANDOM_CLASS = "random, by seed"
BETWEEN_SEEDS = "to the other seed and back"
MAX_FILM_SIZE = 256
KINDS: dict[str, Kind] = {"Color": "color", "Depth": "depth", "Normals": "normals"}
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
BROWSER_FOV = math.radians(45)
"""Field of view of the browser's camera, which shows only the crosshair of a drag."""
MAX_PAGE = 4096
"""Pixels along the longer side of what is sent; a larger page stretches it."""
POLE_MARGIN = 0.02
"""Radians; left and right are undefined straight above the scene."""
TOLERANCE = 1e-3
"""As a share of the range, so that a camera on its border is inside."""
DECIMALS = 4
"""Angles from the browser are rounded, so that its rounding errors request no new image."""


class LocalServer(viser.ViserServer):
    """A server without viser's public relay, which a page could request."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        """Refuse."""
        return None


def _refuse_strangers(serve: Callable[..., Any], is_local: bool) -> Callable[..., Any]:
    """`websockets.asyncio.server.serve` for a server that pages of other sites cannot use.

    A browser lets every page open a WebSocket to this machine, but says whose page it is. A site whose name leads here
    (DNS rebinding) says so, too, in the name of the host.
    """

    def checked(*arguments: Any, process_request: Callable[..., Any], **options: Any) -> Any:
        def process(connection: ServerConnection, request: HttpRequest) -> Any:
            host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
            is_foreign = origin is not None and urlsplit(origin).netloc != host
            if is_foreign or (is_local and urlsplit(f"//{host}").hostname not in LOCAL_NAMES):
                return connection.respond(HTTPStatus.FORBIDDEN, "Open the address that threedgp view has printed.\n")
            return process_request(connection, request)

        return serve(*arguments, process_request=process, **options)

    return checked


def open_server(host: str, port: int) -> viser.ViserServer:
    """A server that listens on `host` and `port`; port 0 = any free port. Raises UserError if the port is in use, or
    the address is not one of this machine."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host, --port: cannot listen on {host}:{port} ({reason}); choose another one.") from None
    checked = _refuse_strangers(websockets_server.serve, address[0] in LOCAL_NAMES)
    # viser prints a banner, and has no option for whom to serve.
    with contextlib.redirect_stdout(io.StringIO()), patch.object(websockets_server, "serve", checked):
        server = LocalServer(host=host, port=port, label="3DGP", verbose=False)
    if port and server.get_port() != port:  # taken in the meantime, so viser uses the next one
        server.stop()
        raise UserError(f"--port: {port} is in use; choose another one.")
    return server


def serve(
    renderer: SceneRenderer,
    class_names: Sequence[str],
    title: str,
    size: int,
    server: viser.ViserServer,
    beside: SceneRenderer | None = None,
) -> dict[int, Session]:
    """Show scenes on every page that is opened; returns at once, with a dictionary of the open pages by client id.

    `class_names` are by label, empty for a model without classes; `title` is that of the control panel; `size` is the
    side of the final image in pixels (the page may be smaller); `beside` shows the same seeds, classes and cameras of a
    second model at the right.
    """
    renderers = [renderer] if beside is None else [renderer, beside]
    config = renderer.generator.camera_config
    server.scene.set_up_direction("+y")
    server.gui.set_panel_label(title)
    server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
    server.gui.main_panel.dock_right()
    start = renderer.own_camera(SceneKey(0, None, 1.0))
    server.initial_camera.position = orbit_position(start)
    server.initial_camera.look_at = (0.0, 0.0, 0.0)
    server.initial_camera.fov = BROWSER_FOV
    sessions: dict[int, Session] = {}

    @server.on_client_connect
    def _(client: viser.ClientHandle) -> None:
        client.camera.min_orbit_distance = client.camera.max_orbit_distance = config.radius
        sessions[client.client_id] = Session(client, renderers, class_names, size)

    @server.on_client_disconnect
    def _(client: viser.ClientHandle) -> None:
        session = sessions.pop(client.client_id, None)
        if session:
            session.progressive.close()

    return sessions


class Session:
    """One open page: its controls, its camera and its renderer."""

    def __init__(
        self, client: viser.ClientHandle, renderers: Sequence[SceneRenderer], class_names: Sequence[str], size: int
    ) -> None:
        self.client, self.class_names, self.size = client, class_names, size
        self.renderers, self.renderer = renderers, renderers[0]
        self.progressive = ProgressiveRenderer(self._draw, self.renderer.speed, self._show, self._fail)
        self._add_controls(client.gui, self.renderer.generator.camera_config)
        client.camera.on_update(self._follow_camera)
        self._take_camera(self.renderer.own_camera(self._scene()))
        self.refresh()

    def _add_controls(self, gui: viser.GuiApi, config: CameraConfig) -> None:
        named = [f"{label} {name}" for label, name in enumerate(self.class_names)]
        with gui.add_folder("Scene"):
            self.seed = gui.add_slider("Seed", 0, NUM_SEEDS - 1, 1, 0)
            self.chosen = gui.add_dropdown(
                "Class", (RANDOM_CLASS, *named), initial_value=RANDOM_CLASS, visible=bool(named)
            )
            self.truncation = gui.add_slider("Truncation", 0.0, 1.0, 0.05, 1.0, hint="1 = full variety, 0 = average")
            self.other = gui.add_slider("Other seed", 0, NUM_SEEDS - 1, 1, 1, hint="for the share below")
            self.share = gui.add_slider(
                "Share of it", 0.0, 1.0, 0.01, 0.0, hint="interpolation in w: 0 = the seed itself"
            )
        with gui.add_folder("Camera"):

            def slider(label: str, low: float, high: float, step: float, value: float, field: str) -> Any:
                """A slider that marks the range of the learned cameras."""
                first, last = (round(end, 2) for end in self.renderer.learned[field])
                hint = f"learned cameras: {first:g} to {last:g}"
                return gui.add_slider(label, low, high, step, value, marks=((first, "["), (last, "]")), hint=hint)

            self.yaw = slider("Yaw (rad)", -3.14, 3.14, 0.01, 0.0, "yaw")
            self.pitch = slider("Pitch (rad)", 0.02, 3.12, 0.01, 1.57, "pitch")
            self.fov = slider("Fov (deg)", 1.0, 90.0, 0.5, sum(config.fov) / 2, "fov")
            self.look_at_yaw = gui.add_slider("Look-at yaw (rad)", -3.14, 3.14, 0.01, 0.0)
            self.look_at_pitch = gui.add_slider("Look-at pitch (rad)", 0.0, 3.14, 0.01, 1.57)
            self.look_at_radius = slider("Look-at radius", 0.0, 0.5, 0.005, 0.0, "look_at_radius")
            own = gui.add_button("Camera of the scene", hint="the camera that the model predicts")
        with gui.add_folder("Show"):
            self.kind = gui.add_dropdown("View", tuple(KINDS), initial_value=next(iter(KINDS)))
            self.note = gui.add_html("")
        save = gui.add_button("Save image", icon=viser.Icon.PHOTO)
        self.mesh_button = gui.add_button("Save mesh", icon=viser.Icon.CUBE, hint="GLB, for 3D programs")
        with gui.add_folder("Film"):
            self.path = gui.add_dropdown("Path", (*PATHS, BETWEEN_SEEDS))
            self.film_button = gui.add_button("Save film", icon=viser.Icon.MOVIE, hint="MP4, three seconds")
        look_at = (self.look_at_yaw, self.look_at_pitch, self.look_at_radius)
        for control in (self.seed, self.chosen, self.truncation, self.other, self.share, self.fov, *look_at, self.kind):
            control.on_update(self._ask)
        for control in (self.yaw, self.pitch):
            control.on_update(self._turn_camera)
        own.on_click(lambda _: self._take_camera(self.renderer.own_camera(self._scene())))
        save.on_click(lambda _: self._save_image())
        self.mesh_button.on_click(lambda _: self._save_mesh())
        self.film_button.on_click(lambda _: self._save_film())

    def refresh(self) -> None:
        """Render what the page asks for; once the model is another one, anew."""
        self.progressive.request(self.request())

    async def _ask(self, _: Any) -> None:
        # On the server's event loop, which keeps the order of changes.
        self.refresh()

    async def _turn_camera(self, event: viser.GuiEvent) -> None:
        """Move the browser's camera to the sliders, if a person has moved them."""
        if event.client is not None:
            radius = self.renderer.generator.camera_config.radius
            camera = torch.tensor([self.yaw.value, self.pitch.value, 0.0, 0.0, radius, 0.0, 0.0, 0.0])
            with self.client.atomic():
                self._place_camera(camera)

    async def _follow_camera(self, _: Any) -> None:
        """Show the angles of the browser's camera, and what it sees."""
        for slider, angle in zip((self.yaw, self.pitch), orbit_angles(self.client.camera.wxyz), strict=True):
            angle = min(max(round(angle, 2), slider.min), slider.max)
            if abs(angle - slider.value) > 0.005:
                slider.value = angle
        self.refresh()

    def _scene(self) -> SceneKey:
        label = None if self.chosen.value == RANDOM_CLASS else int(self.chosen.value.split()[0])
        share = round(self.share.value, DECIMALS)
        between = (self.other.value, share) if share else (None, 0.0)
        return SceneKey(self.seed.value, label, round(self.truncation.value, DECIMALS), *between)

    def request(self) -> Request:
        """The image that camera and controls of the page describe."""
        yaw, pitch = (round(angle, DECIMALS) for angle in orbit_angles(self.client.camera.wxyz))
        radius = self.renderer.generator.camera_config.radius
        look_at = self.look_at_yaw.value, self.look_at_pitch.value, self.look_at_radius.value
        camera = (yaw, pitch, 0.0, self.fov.value, radius, *look_at)
        version = sum(renderer.version for renderer in self.renderers)
        settings = ViewSettings(self._scene(), KINDS[self.kind.value], camera, version)
        width, height = page_size(self.client.camera.image_width, self.client.camera.image_height)
        return Request(settings, min(self.size, max(width // len(self.renderers), MIN_SIZE), height), (width, height))

    def _draw(
        self, settings: ViewSettings, size: int, is_stale: Callable[[], bool] = lambda: False
    ) -> np.ndarray | None:
        """The images of all models side by side, uint8 `[size, N size, 3]`; None if `is_stale` returned True."""
        images = []
        for renderer in self.renderers:
            image = renderer.draw(settings, size, is_stale)
            if image is None:
                return None
            images.append(image)
        return np.concatenate(images, axis=1)

    def _place_camera(self, camera: Tensor) -> None:
        self.client.camera.position = orbit_position(camera)
        self.client.camera.look_at = (0.0, 0.0, 0.0)  # which viser moves along with the position

    def _take_camera(self, own: Tensor) -> None:
        """Move the browser's camera and the sliders to a camera `[8]`."""
        values = dict(zip(CAMERA_FIELDS, own.tolist(), strict=True))
        with self.client.atomic():
            self._place_camera(own)
            for name in ("yaw", "pitch", "fov", "look_at_yaw", "look_at_pitch", "look_at_radius"):
                control = getattr(self, name)
                control.value = min(max(values[name], control.min), control.max)

    def _show(self, frame: Frame) -> None:
        self.client.scene.set_background_image(on_page(frame.image, *frame.request.page), format="png")
        self.note.content = self._words(frame)

    def _words(self, frame: Frame) -> str:
        settings, side = frame.request.settings, len(frame.image)
        yaw, pitch, _, fov, *_ = settings.camera
        outside = outside_prior(self.renderer.generator.camera_config, settings.camera)
        rare = [field for field in outside_of(self.renderer.learned, settings.camera) if field not in outside]
        lines = [f"{side} × {side} pixels, {frame.seconds:.2g} s" + ("" if frame.is_final else " …")]
        label = self.renderer.label(settings.scene)
        if label is not None:
            lines.insert(0, f"class {label} {html.escape(self.class_names[label])}")
        lines.insert(0, html.escape(" | ".join(filter(None, (renderer.name for renderer in self.renderers)))))
        lines.append(f"yaw {yaw:.3f} rad, pitch {pitch:.3f} rad, fov {fov:.1f}°")
        for fields, text in (
            (outside, "Outside of the prior: {}. Not seen in training."),
            (rare, f"Beyond {LEARNED_SHARE:.0%} of the learned cameras: {{}}."),
        ):
            if fields:
                words = text.format(", ".join(fields).replace("_", " "))
                lines.append(f'<span style="color:#f59e0b">{words}</span>')
        text = "<br>".join(filter(None, lines))
        return f'<div style="padding:0 1em 0.8em;font-size:0.85em;line-height:1.5">{text}</div>'

    def _fail(self, error: Exception) -> None:
        traceback.print_exception(error)
        self.note.content = f'<div style="padding:0 1em 0.8em">Rendering failed: {html.escape(str(error))}</div>'

    def _name(self, scene: SceneKey) -> str:
        label = self.renderer.label(scene)
        parts = [f"seed{scene.seed:04d}"]
        parts += [] if label is None else [f"class{label:03d}"]
        parts += [] if scene.truncation == 1 else [f"truncation{scene.truncation:g}"]
        parts += [] if scene.other is None else [f"to{scene.other:04d}_{scene.share:g}"]
        return "_".join(parts)

    def _save_image(self) -> None:
        """Render at full size, whatever the page shows at the moment."""
        settings = self.request().settings
        scene = settings.scene
        image = self._draw(settings, self.size)
        label = self.renderer.label(scene)
        class_name = "" if label is None else self.class_names[label]
        text = scene_text(scene.seed, label, class_name, scene.truncation, self.renderer.sha256)
        text |= {} if scene.other is None else {"other seed": str(scene.other), "share": f"{scene.share:g}"}
        name = self._name(scene) + ("" if settings.kind == "color" else f"_{settings.kind}")
        png = png_with_text(encode_image(image, "png"), text)
        self.client.send_file_download(f"{name}.png", png, save_immediately=True)

    def _save_mesh(self) -> None:
        scene = self._scene()
        self._save(self.mesh_button, f"{self._name(scene)}.glb", lambda: self.renderer.mesh(scene))

    def _save_film(self) -> None:
        scene, path = self._scene(), self.path.value
        if path == BETWEEN_SEEDS:
            name = f"{self._name(scene._replace(other=None))}_to{self.other.value:04d}_interpolation"
            scene = scene._replace(other=self.other.value)
        else:
            name = f"{self._name(scene)}_{path}"
        size = min(self.size, MAX_FILM_SIZE)
        self._save(self.film_button, f"{name}{SUFFIX}", lambda: self.renderer.film(scene, path, size))

    def _save(self, button: viser.GuiButtonHandle, name: str, make: Callable[[], bytes]) -> None:
        """Send a file that takes a while to make."""
        note = self.client.add_notification(name, "In progress …", loading=True, with_close_button=False)
        button.disabled = True
        try:
            self.client.send_file_download(name, make(), save_immediately=True)
            note.body = "Saved."
        except UserError as error:
            note.body = str(error)
        except Exception:
            note.body = "Failed; the terminal says why."
            raise
        finally:
            button.disabled = False
            note.loading, note.with_close_button, note.auto_close_seconds = False, True, 8.0


def page_size(width: int, height: int) -> tuple[int, int]:
    """Size of the image for a browser's canvas: its aspect ratio, within bounds whatever the browser says."""
    scale = min(1.0, MAX_PAGE / max(width, height, 1))
    return max(round(width * scale), MIN_SIZE), max(round(height * scale), MIN_SIZE)


def on_page(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Square images side by side, `[R, N R, 3]`, on a page of the given aspect ratio, uint8 `[H, W, 3]`, no larger than
    the page.

    The browser stretches the result over the page, so it includes the background. The images are centered on a wide
    page and at the top of a high one, where the controls cover the rest.
    """
    count = image.shape[1] // len(image)
    largest = max(min(height, width // count), 1)
    side = min(max(len(image), MIN_SENT), largest)
    if side != len(image):
        interpolation = cv2.INTER_AREA if side < len(image) else cv2.INTER_LINEAR
        image = cv2.resize(image, (count * side, side), interpolation=interpolation)
    scale = side / largest
    rows, columns = max(round(height * scale), side), max(round(width * scale), count * side)
    page = np.full((rows, columns, 3), BACKGROUND, np.uint8)
    left = (columns - count * side) // 2
    page[:side, left : left + count * side] = image
    return page


# The browser's camera orbits the origin at the radius of the model's cameras; the page shows what the model's camera at
# the same yaw and pitch sees. Field of view and look-at point are set by sliders, not by the mouse.


def orbit_angles(wxyz: np.ndarray) -> tuple[float, float]:
    """Yaw and pitch, in radians, of the camera that looks at the origin in the direction of the browser's camera, whose
    camera-to-world rotation with OpenCV's axes is the quaternion `wxyz`, real part first."""
    rotation = Rotation.from_quat(wxyz, scalar_first=True).as_matrix()
    x, y, z = -rotation[:, 2]  # from the look-at point to the camera
    pitch = math.acos(min(max(y, -1.0), 1.0))
    return math.atan2(-x, z), min(max(pitch, POLE_MARGIN), math.pi - POLE_MARGIN)


def orbit_position(camera: Tensor) -> tuple[float, float, float]:
    """Position of the browser's camera for a camera `[8]`; it looks at the origin."""
    x, y, z = spherical_to_cartesian(camera[YAW], camera[PITCH], camera[RADIUS]).double().tolist()
    return x, y, z


def outside_prior(config: CameraConfig, camera: Sequence[float]) -> list[str]:
    """Fields of a camera, in the order of `CAMERA_FIELDS`, that lie outside of the prior of training."""
    return outside_of({field: getattr(config, field) for field in PRIOR_FIELDS}, camera)


def outside_of(ranges: Mapping[str, tuple[float, float]], camera: Sequence[float]) -> list[str]:
    """Fields of a camera, in the order of `CAMERA_FIELDS`, that lie outside of `ranges`."""
    found = []
    for field, column in PRIOR_FIELDS.items():
        low, high = ranges[field]
        slack = TOLERANCE * max(high - low, 1e-3)
        if not low - slack <= camera[column] <= high + slack:
            found.append(field)
    return found
