"""Published snapshots of 3DGP and EpiGRAF as our model folders: sizes from shapes, the rest from their own settings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from threedgp.config import CameraConfig, ModelConfig
from threedgp.conversion.names import convert_names
from threedgp.conversion.snapshots import MALFORMED, network_tensors, read_snapshot
from threedgp.models.generator import Generator
from threedgp.models.saving import CONFIG, WEIGHTS, write_model
from threedgp.runtime.errors import UserError

# What a setting must be for our modules to compute the same; absent means the published default, which it is.
_REQUIRED = {
    "ray_marcher_type": "classical",
    "clamp_mode": "softplus",
    "architecture": "skip",
    "has_view_cond": False,
    "camera_cond": False,
    "use_full_box": False,
    "dataset.white_back": False,
    "bg_model.type": None,
    "tri_plane.view_hid_dim": 0,
    "tri_plane.posenc_period_len": 0,
    "camera_adaptor.residual": False,
    "camera_adaptor.lipschitz_weights.enabled": False,
    "camera_adaptor.adjust.angles": True,
    "camera_adaptor.adjust.radius": False,
    "camera_adaptor.adjust.fov": True,
    "camera_adaptor.adjust.look_at": True,
}
_PRIORS = {"uniform": "uniform", "truncnorm": "truncated_normal", "normal": "normal", "gaussian": "normal"}


def convert_snapshot(snapshot: Path, folder: Path) -> None:
    """Write the averaged generator of a published snapshot as a model folder.

    Runs no code of the snapshot. Class names are numbers, and classes equally frequent, for it knows neither.

    Raises:
        UserError: the file is no snapshot, `folder` holds a model, or the snapshot is of a kind that our generator is
            not; says which setting or parameter.
    """
    for name in (WEIGHTS, CONFIG):
        if (folder / name).exists():
            raise UserError(f"{folder / name}: this folder already holds a model; name another one.")
    content = read_snapshot(snapshot)
    try:
        images = _images(content)
        generator, resolution = _build(network_tensors(content["G_ema"]), content["G_ema"]["state"])
    except UserError as error:
        raise UserError(f"{snapshot}: {error}") from None
    except (ArithmeticError, MemoryError, *MALFORMED) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{snapshot}: its settings or parameters are not those of a generator: {reason}") from None
    classes = [str(number) for number in range(generator.num_classes)]
    write_model(folder, generator, resolution=resolution, class_names=classes, seed=0, kimg=images / 1000)


def _images(content: Mapping[str, Any]) -> float:
    """How many images the model was trained on: among `stats` in 3DGP, at the top in its relatives."""
    stats = content.get("stats")
    place = stats if isinstance(stats, Mapping) and "cur_nimg" in stats else content
    images = _finite(place.get("cur_nimg", 0))
    if images is None or images < 0:
        raise UserError(f"its cur_nimg is {_shown(place['cur_nimg'])}, not a number of images.")
    return images


def _build(tensors: dict[str, Tensor], state: Mapping[str, Any]) -> tuple[Generator, int]:
    settings = _Settings(_plain(state.get("cfg")))
    for key, expected in _REQUIRED.items():
        value = settings.get(key, expected)
        if value != expected:
            raise UserError(f"its setting {key} is {_shown(value)}, and our generator only has {expected!r}.")
    weights = convert_names(tensors, network="generator")
    resolution = state.get("img_resolution") or settings.get("dataset.resolution")
    if not isinstance(resolution, int) or isinstance(resolution, bool) or not 0 < resolution < 1 << 16:
        raise UserError("its settings do not say the resolution of pictures (dataset.resolution).")
    camera = _camera(weights, settings)
    model, classes = _model(weights, settings)
    try:
        sizes = CameraConfig(**camera), ModelConfig.model_validate(model), classes
        # Shapes are compared before memory is asked for: the sizes of a damaged file may be anything.
        with torch.device("meta"):
            trial = Generator(*sizes)
        trial.load_state_dict({name: torch.empty_like(tensor, device="meta") for name, tensor in weights.items()})
        generator = Generator(*sizes)
        generator.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    except RuntimeError as error:
        raise UserError(f"its parameters are not those of our generator: {' '.join(str(error).split())}") from None
    return generator.eval(), resolution


def _plain(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """Settings as nested dictionaries: EasyDict and OmegaConf nodes without what they are wrapped in."""
    seen = {} if seen is None else seen
    if isinstance(value, list | tuple):
        return []  # no setting that is read here is a list
    if not isinstance(value, Mapping):
        return value
    # Each node once: a damaged file may repeat them without end, or in themselves.
    if id(value) not in seen:
        seen[id(value)] = None
        if wrapped := {"_content", "_val"} & set(value):
            seen[id(value)] = _plain(value[min(wrapped)], seen)
        else:
            seen[id(value)] = {key: _plain(inner, seen) for key, inner in value.items()}
    return seen[id(value)]


def _shown(value: Any) -> str:
    """A value for a sentence: short whatever it is."""
    if isinstance(value, str | int | float | bool | None):
        return repr(value)[:80] if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"
    return f"a {type(value).__name__}"


def _finite(value: Any) -> float | None:
    """`value` as a number; None where it is none, or too large for one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if -1e300 < value < 1e300 else None


class _Settings:
    """A snapshot's own settings by dotted key."""

    def __init__(self, values: Any) -> None:
        self.values = values if isinstance(values, dict) else {}

    def get(self, key: str, default: Any = None) -> Any:
        """The setting, or `default` where it is absent or refers to a part of the file that was not kept."""
        place: Any = self.values
        for part in key.split("."):
            if not isinstance(place, dict) or part not in place:
                return default
            place = place[part]
        return default if isinstance(place, str) and place.startswith("${") else place

    def number(self, *keys: str) -> float:
        """The first of `keys` that is there, as a number."""
        for key in keys:
            value = self.get(key)
            if isinstance(value, int | float) and _finite(value) is None:
                raise UserError(f"its setting {key} is {_shown(value)}, not a finite number.")
            if (number := _finite(value)) is not None:
                return number
        raise UserError(f"its settings lack the number {keys[0]}, without which it cannot be rendered.")


def _model(weights: dict[str, Tensor], settings: _Settings) -> tuple[dict[str, Any], int]:
    """Section `model` and the number of classes."""

    def shape(name: str, rank: int) -> torch.Size:
        if name not in weights:
            raise UserError(f"it lacks the parameter that we call {name}.")
        size = weights[name].shape
        if len(size) != rank or 0 in size:
            raise UserError(f"the parameter that we call {name} has shape {list(size)}, not {rank} positive sizes.")
        return size

    w_dim = shape("mapping.w_average", 1)[0]
    classes = shape("mapping.embed.linear.weight", 2)[1] if "mapping.embed.linear.weight" in weights else 0
    blocks = _count(weights, r"backbone\.blocks\.(\d+)\.")
    channels = {4 << index: shape(f"backbone.blocks.{index}.conv1.bias", 1)[0] for index in range(blocks)}
    base, largest = _channels(channels)
    samples = int(settings.number("num_ray_steps"))
    model: dict[str, Any] = {
        "class_conditional": classes > 0,
        "depth": "depth_adaptor.near_offset_raw" in weights,
        "generator": {
            "z_dim": shape("mapping.layers.0.weight", 2)[1] - (w_dim if classes else 0),
            "w_dim": w_dim,
            "mapping_layers": _count(weights, r"mapping\.layers\.(\d+)\."),
            "plane_resolution": max(channels),
            "plane_channels": shape("backbone.blocks.0.output.bias", 1)[0] // 3,
            "channel_base": base,
            "channel_max": largest,
            "noise": "backbone.blocks.0.conv1.noise_strength" in weights,
            "decoder_hidden": shape("decoder.hidden.bias", 1)[0],
            "cube_half_width": settings.number("camera.cube_scale", "dataset.camera.cube_scale", "dataset.cube_scale"),
            "coarse_samples": samples,
            "fine_samples": samples,
            "last_back": bool(settings.get("dataset.last_back", False)),
            "infinite_last_interval": bool(settings.get("use_inf_depth", True)),
        },
    }
    if model["depth"]:
        adaptor: dict[str, Any] = {"mode": "off"}
        if "depth_adaptor.layers.0.weight" in weights:
            width, _, kernel, _ = shape("depth_adaptor.layers.0.weight", 4)
            layers = _count(weights, r"depth_adaptor\.layers\.(\d+)\.")
            adaptor = {"mode": "all", "layers": layers, "channels": width, "kernel_size": kernel}
        adaptor["near_offset_share"] = settings.get("depth_adaptor.near_plane_offset_max_fraction", 0.25)
        model["depth_adaptor"] = adaptor
    return model, classes


def _count(weights: dict[str, Tensor], pattern: str) -> int:
    return 1 + max((int(match[1]) for name in weights if (match := re.match(pattern, name))), default=-1)


def _channels(channels: dict[int, int]) -> tuple[int, int]:
    """`channel_base` and `channel_max` from the channels at each resolution."""
    largest = max(channels.values())
    narrow = [resolution for resolution, count in channels.items() if count < largest]
    resolution = min(narrow, default=max(channels))
    base = channels[resolution] * resolution
    if any(count != min(base // size, largest) for size, count in channels.items()):
        raise UserError(f"its channels {channels} are not min(cbase / resolution, cmax) for any cbase and cmax.")
    return base, largest


def _camera(weights: dict[str, Tensor], settings: _Settings) -> dict[str, Any]:
    """Section `camera`."""
    place = next((key for key in ("camera", "dataset.camera") if settings.get(f"{key}.origin")), None)
    camera = _early_camera(settings) if place is None else _late_camera(_Settings(settings.get(place)))
    camera["learned"] = "camera_generator.origin.output.weight" in weights
    if camera["learned"]:
        camera["hidden"] = weights["camera_generator.origin.hidden.weight"].shape[0]
        if "camera_generator.look_at.project_z.weight" in weights:
            camera["embedding"] = weights["camera_generator.look_at.project_z.weight"].shape[0]
        camera["lr_multiplier"] = settings.get("camera_adaptor.lr_multiplier", 0.1)
    return camera


def _prior(name: Any) -> str:
    if not isinstance(name, str) or name not in _PRIORS:
        ours = ", ".join(sorted(set(_PRIORS.values())))
        raise UserError(f"its cameras follow the law {_shown(name)}; ours are {ours}.")
    return _PRIORS[name]


def _late_camera(camera: _Settings) -> dict[str, Any]:
    """Cameras as 3DGP's code states them, also for the EpiGRAF models that were trained with it."""
    if camera.number("origin.radius.mean") <= 0 or camera.get("origin.radius.std", 0.0) != 0:
        raise UserError("its camera moves towards and away from the scene (origin.radius.std); ours does not.")
    prior = _prior(camera.get("origin.angles.dist"))
    return {
        "prior": prior,
        "yaw": _angle(camera, "origin.angles.yaw", prior, math.pi / 2),
        "pitch": _angle(camera, "origin.angles.pitch", prior, math.pi / 4),
        "yaw_std": camera.get("origin.angles.yaw.std", 0.0),
        "pitch_std": camera.get("origin.angles.pitch.std", 0.0),
        "fov": _range(camera, "fov"),
        "radius": camera.number("origin.radius.mean"),
        "look_at_radius": _range(camera, "look_at.radius"),
        "ray_start": camera.number("ray.start"),
        "ray_end": camera.number("ray.end"),
    }


def _range(camera: _Settings, key: str) -> tuple[float, float]:
    if camera.get(f"{key}.dist", "uniform") == "uniform":
        return camera.number(f"{key}.min"), camera.number(f"{key}.max")
    if camera.get(f"{key}.std") != 0:
        raise UserError(f"its setting camera.{key} is normal with a deviation; ours is uniform or a single value.")
    mean = camera.number(f"{key}.mean")
    return mean, mean


def _angle(camera: _Settings, key: str, prior: str, reach: float) -> tuple[float, float]:
    """Bounds of an angle; those of a normal law only say its mean."""
    if prior == "normal":
        mean = camera.number(f"{key}.mean")
        return mean - reach, mean + reach
    low, high = camera.number(f"{key}.min"), camera.number(f"{key}.max")
    if prior == "truncated_normal" and abs(camera.number(f"{key}.mean") - (low + high) / 2) > 0.01:
        raise UserError(f"its setting camera.{key}.mean is not the middle of the bounds, as ours is.")
    return low, high


def _early_camera(settings: _Settings) -> dict[str, Any]:
    """Cameras as EpiGRAF's first code states them: `dataset.sampling`."""
    sampling = _Settings(settings.get("dataset.sampling"))
    prior = _prior(sampling.get("dist"))
    spread = {"yaw": sampling.number("horizontal_stddev"), "pitch": sampling.number("vertical_stddev")}
    mean = {"yaw": sampling.number("horizontal_mean"), "pitch": sampling.number("vertical_mean")}
    # A uniform law is given by its half-width, which is called a deviation there.
    reach = spread if prior == "uniform" else {"yaw": math.pi / 2, "pitch": math.pi / 4}
    fov = sampling.number("fov")
    return {
        "prior": prior,
        **{angle: (mean[angle] - reach[angle], mean[angle] + reach[angle]) for angle in mean},
        "yaw_std": spread["yaw"],
        "pitch_std": spread["pitch"],
        "fov": (fov, fov),
        "radius": sampling.number("radius"),
        "look_at_radius": (0.0, 0.0),
        "ray_start": sampling.number("ray_start"),
        "ray_end": sampling.number("ray_end"),
    }
