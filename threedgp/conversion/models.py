"""Published snapshots of 3DGP and EpiGRAF as our model folders: sizes from shapes, the rest from their own settings."""

from __future__ import annotations

import math
import os
import re
import resource
import sys
import time
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from threedgp.config import CameraConfig, DiscriminatorConfig, ModelConfig
from threedgp.config.errors import shown
from threedgp.conversion.names import convert_discriminator_names, convert_names
from threedgp.conversion.snapshots import MAX_PARTS, Network, network_tensors, read_snapshot
from threedgp.models.discriminator import Discriminator
from threedgp.models.saving import CONFIG, WEIGHTS, write_model
from threedgp.models.triplane import TriplaneGenerator
from threedgp.runtime.errors import UserError
from threedgp.runtime.parallel import ProcessPool
from threedgp.runtime.targets import try_writing, writing

Settings = dict[str, Any]
"""A snapshot's own settings by dotted key."""

MEMORY, MEMORY_PER_BYTE = 2**30, 6
"""Bytes that a conversion may allocate, and in addition those for each byte of the snapshot."""
SECONDS, BYTES_PER_SECOND = 60, 2**23
"""Processor time of a conversion, and the size of a snapshot that adds another second."""

# Values of the settings for which our modules compute the same; they are the published defaults.
_REQUIRED: Settings = {
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
_PATCH_KEYS = ("training.patch.resolution", "patch.resolution", "patch_resolution")
DEFAULT_PATCH = 64
"""Side of the published patches, for snapshots whose discriminator does not state it."""
_PRIORS = {"uniform": "uniform", "truncnorm": "truncated_normal", "normal": "normal", "gaussian": "normal"}


def convert_snapshot(snapshot: Path, folder: Path) -> str | None:
    """Write the averaged generator and the discriminator of a published snapshot as a model folder. Returns why the
    discriminator was left out; None if it was not.

    Runs no code of the snapshot. A snapshot knows neither names nor frequencies of its classes: names are numbers, and
    all classes equally frequent. A child process reads the snapshot, with limits of memory and time: a pickle of 1 kB
    can ask for more than any machine has.

    Raises:
        UserError: the file is no snapshot, `folder` holds a model, or our generator cannot compute what that of the
            snapshot does; names the setting or parameter.
    """
    for name in (WEIGHTS, CONFIG):
        if (folder / name).exists():
            raise UserError(f"{folder / name}: this folder already holds a model; name another one.")
    with writing(folder, "convert"):
        try_writing(folder)
    try:
        with ProcessPool(1) as pool:
            return pool.submit(_convert_limited, snapshot, folder, SECONDS).result()
    except BrokenProcessPool:
        raise UserError(
            f"{snapshot}: refused to read this as a snapshot: it crashes its reader or never ends."
        ) from None


def _convert_limited(snapshot: Path, folder: Path, seconds: int) -> str | None:
    torch.set_num_threads(1)  # each thread takes address space
    size = snapshot.stat().st_size if snapshot.is_file() else 0
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limit = used + MEMORY_PER_BYTE * size + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    seconds += int(time.process_time() + size / BYTES_PER_SECOND)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    return convert_trusted(snapshot, folder)


def convert_trusted(snapshot: Path, folder: Path) -> str | None:
    """Like `convert_snapshot`, in this process and without limits."""
    content = read_snapshot(snapshot)
    try:
        kimg = _images(content) / 1000
        generator, resolution = _build(content["G_ema"])
    except UserError as error:
        raise UserError(f"{snapshot}: {error}") from None
    except Exception as error:  # other files than the published ones raise nearly everything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"{snapshot}: its settings or parameters are not those of our generator ({reason}).") from None
    discriminator = problem = None
    try:
        discriminator, config = _build_discriminator(content.get("D"), resolution, generator)
        generator.model_config = generator.model_config.model_copy(update={"discriminator": config})
    except UserError as error:
        problem = str(error).rstrip(".")
    except Exception as error:  # as above
        problem = f"its parameters are not those of ours ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    classes = [str(number) for number in range(generator.num_classes)]
    about = dict(resolution=resolution, class_names=classes, seed=0, kimg=kimg)
    write_model(folder, generator, **about, discriminator=discriminator)
    return problem


def _images(content: Mapping[str, Any]) -> float:
    """Number of images of the training: among `stats` in 3DGP, at the top in its relatives."""
    stats = content.get("stats")
    images = (stats if isinstance(stats, Mapping) and "cur_nimg" in stats else content).get("cur_nimg", 0)
    if not _is_number(images) or not 0 <= images < 1e15:
        raise UserError(f"its cur_nimg is {shown(images)}, not a number of images.")
    return float(images)


def _build(network: Network) -> tuple[TriplaneGenerator, int]:
    """The generator, complete except for the buffers that are not saved, and its resolution."""
    settings = _flatten(network.get("cfg"))
    for key, expected in _REQUIRED.items():
        value = settings.get(key, expected)
        if value != expected:
            raise UserError(f"its setting {key} is {shown(value)}, and our generator only has {expected!r}.")
    weights = convert_names(network_tensors(network))
    resolution = network.get("img_resolution") or settings.get("dataset.resolution")
    if type(resolution) is not int or not 8 <= resolution <= 4096:
        raise UserError("its settings do not say the resolution of its images (dataset.resolution).")
    camera = _camera(weights, settings)
    model, num_classes = _model(weights, settings)
    try:
        sizes = CameraConfig(**camera), ModelConfig(**model), num_classes
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    # Shapes are compared before memory is allocated: the sizes of a damaged file may be anything.
    with torch.device("meta"):
        generator = TriplaneGenerator(*sizes)
    generator.load_state_dict({name: torch.empty_like(tensor, device="meta") for name, tensor in weights.items()})
    generator.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    return generator, resolution


def _build_discriminator(
    network: Any, resolution: int, generator: TriplaneGenerator
) -> tuple[Discriminator, DiscriminatorConfig]:
    """The discriminator and its settings, for images of `resolution` and the classes of the generator."""
    if not isinstance(network, Network):
        raise UserError("the snapshot has none")
    settings = _flatten(network.get("cfg"))
    weights = convert_discriminator_names(network_tensors(network))
    blocks = range(_count(weights, r"blocks\.(\d+)\."))
    if 4 << len(blocks) != resolution:
        raise UserError(f"it has {len(blocks)} blocks, which are not those of images of {resolution} pixels")
    channels = {resolution >> index: weights[f"blocks.{index}.conv0.bias"].shape[0] for index in blocks}
    channel_base, channel_max = _channels(channels | {4: weights["conv.bias"].shape[0]})
    patch = next(
        (settings[key] for key in _PATCH_KEYS if type(settings.get(key)) is int), min(DEFAULT_PATCH, resolution)
    )
    config = DiscriminatorConfig(
        patch_resolution=patch,
        channel_base=channel_base,
        channel_max=channel_max,
        patch_encoding_width=weights["style_mapping.embed.bias"].shape[0],
    )
    head = weights.get("feature_head.1.bias")
    model = ModelConfig(discriminator=config, depth=weights["from_rgb.weight"].shape[1] == 4)
    with torch.device("meta"):
        num_features = 0 if head is None else head.shape[0]
        discriminator = Discriminator(model, resolution, generator.num_classes, num_features)
    discriminator.load_state_dict({name: torch.empty_like(values, device="meta") for name, values in weights.items()})
    discriminator.load_state_dict({name: values.float() for name, values in weights.items()}, assign=True)
    return discriminator, config


def _flatten(root: Any) -> Settings:
    """Settings from nested EasyDicts or OmegaConf nodes, without references to other settings, and without lists."""
    settings: Settings = {}
    nodes = [("", root)]
    for prefix, node in nodes:
        if len(nodes) > MAX_PARTS or prefix.count(".") > 50:
            raise UserError("its settings contain themselves.")
        if isinstance(node, Mapping) and (wrapper := {"_content", "_val"} & set(node)):
            nodes.append((prefix, node[min(wrapper)]))
        elif isinstance(node, Mapping):
            nodes += [(f"{prefix}.{name}" if prefix else str(name), inner) for name, inner in node.items()]
        elif not isinstance(node, str) or not node.startswith("${"):
            settings[prefix] = node
    return settings


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(settings: Settings, *keys: str) -> float:
    """The first of `keys` that is a number."""
    for key in keys:
        value = settings.get(key)
        if _is_number(value):
            if not abs(value) < 1e15:
                raise UserError(f"its setting {key} is {shown(value)}, not a finite number.")
            return value
    raise UserError(f"its settings lack the number {keys[0]}, without which it cannot be rendered.")


def _model(weights: dict[str, Tensor], settings: Settings) -> tuple[dict[str, Any], int]:
    """Section `model` and the number of classes."""
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items() if 0 not in tensor.shape}
    (w_dim,) = shapes["mapping.w_average"]
    _, num_classes = shapes["mapping.embed.linear.weight"] if "mapping.embed.linear.weight" in weights else (w_dim, 0)
    blocks = range(_count(weights, r"backbone\.blocks\.(\d+)\."))
    if not blocks:
        raise UserError("its generator has no parameters of blocks (b4, b8 and so on); is this another model?")
    channels = {4 << index: shapes[f"backbone.blocks.{index}.conv1.bias"][0] for index in blocks}
    channel_base, channel_max = _channels(channels)
    samples = int(_number(settings, "num_ray_steps"))
    model: dict[str, Any] = {
        "class_conditional": num_classes > 0,
        "depth": "depth_adaptor.near_offset_raw" in weights,
        "generator": {
            "z_dim": shapes["mapping.layers.0.weight"][1] - (w_dim if num_classes else 0),
            "w_dim": w_dim,
            "mapping_layers": _count(weights, r"mapping\.layers\.(\d+)\."),
            "plane_resolution": max(channels),
            "plane_channels": shapes["backbone.blocks.0.output.bias"][0] // 3,
            "channel_base": channel_base,
            "channel_max": channel_max,
            "noise": "backbone.blocks.0.conv1.noise_strength" in weights,
            "decoder_hidden": shapes["decoder.hidden.bias"][0],
            "cube_half_width": _number(
                settings, "camera.cube_scale", "dataset.camera.cube_scale", "dataset.cube_scale"
            ),
            "coarse_samples": samples,
            "fine_samples": samples,
            "last_back": bool(settings.get("dataset.last_back", False)),
            "infinite_last_interval": bool(settings.get("use_inf_depth", True)),
        },
    }
    if model["depth"]:
        adaptor: dict[str, Any] = {"mode": "off"}
        if "depth_adaptor.layers.0.weight" in weights:
            width, _, kernel, _ = shapes["depth_adaptor.layers.0.weight"]
            layers = _count(weights, r"depth_adaptor\.layers\.(\d+)\.")
            adaptor = {"mode": "all", "layers": layers, "channels": width, "kernel_size": kernel}
        adaptor["near_offset_share"] = settings.get("depth_adaptor.near_plane_offset_max_fraction", 0.25)
        model["depth_adaptor"] = adaptor
    return model, num_classes


def _count(weights: dict[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in weights if (match := re.match(pattern, name))})


def _channels(channels: dict[int, int]) -> tuple[int, int]:
    """`channel_base` and `channel_max` from the channels at each resolution."""
    channel_max = max(channels.values())
    resolution = min((size for size, count in channels.items() if count < channel_max), default=max(channels))
    channel_base = channels[resolution] * resolution
    if any(count != min(channel_base // size, channel_max) for size, count in channels.items()):
        raise UserError(f"its channels {channels} are not min(cbase / resolution, cmax) for any cbase and cmax.")
    return channel_base, channel_max


def _camera(weights: dict[str, Tensor], settings: Settings) -> dict[str, Any]:
    """Section `camera`."""
    prefix = next((key for key in ("camera.", "dataset.camera.") if f"{key}origin.radius.mean" in settings), None)
    camera = _early_camera(settings) if prefix is None else _late_camera(_section(settings, prefix))
    camera["learned"] = "camera_generator.origin.output.weight" in weights
    if camera["learned"]:
        camera["hidden"] = weights["camera_generator.origin.hidden.weight"].shape[0]
        if "camera_generator.look_at.project_z.weight" in weights:
            camera["embedding"] = weights["camera_generator.look_at.project_z.weight"].shape[0]
        camera["lr_multiplier"] = settings.get("camera_adaptor.lr_multiplier", 0.1)
    return camera


def _section(settings: Settings, prefix: str) -> Settings:
    return {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}


def _prior(name: Any) -> str:
    if not isinstance(name, str) or name not in _PRIORS:
        known = ", ".join(sorted(set(_PRIORS.values())))
        raise UserError(f"its camera prior is {shown(name)}; our generator has {known}.")
    return _PRIORS[name]


def _late_camera(camera: Settings) -> dict[str, Any]:
    """Cameras in the settings of 3DGP's code, also for the EpiGRAF models that were trained with it."""
    radius = _number(camera, "origin.radius.mean")
    if radius <= 0 or camera.get("origin.radius.std", 0.0) != 0:
        raise UserError("its camera changes its distance to the scene (origin.radius.std); ours does not.")
    prior = _prior(camera.get("origin.angles.dist"))
    return {
        "prior": prior,
        "yaw": _angle(camera, "origin.angles.yaw", prior, math.pi / 2),
        "pitch": _angle(camera, "origin.angles.pitch", prior, math.pi / 4),
        "yaw_std": camera.get("origin.angles.yaw.std", 0.0),
        "pitch_std": camera.get("origin.angles.pitch.std", 0.0),
        "fov": _range(camera, "fov"),
        "radius": radius,
        "look_at_radius": _range(camera, "look_at.radius"),
        "ray_start": _number(camera, "ray.start"),
        "ray_end": _number(camera, "ray.end"),
    }


def _range(camera: Settings, key: str) -> tuple[float, float]:
    if camera.get(f"{key}.dist", "uniform") == "uniform":
        return _number(camera, f"{key}.min"), _number(camera, f"{key}.max")
    if camera.get(f"{key}.std") != 0:
        raise UserError(f"its setting camera.{key} is normal with a deviation; ours is uniform or a single value.")
    mean = _number(camera, f"{key}.mean")
    return mean, mean


def _angle(camera: Settings, key: str, prior: str, reach: float) -> tuple[float, float]:
    """Bounds of an angle; those of a normal prior only determine its mean."""
    if prior == "normal":
        mean = _number(camera, f"{key}.mean")
        return mean - reach, mean + reach
    low, high = _number(camera, f"{key}.min"), _number(camera, f"{key}.max")
    if prior == "truncated_normal" and abs(_number(camera, f"{key}.mean") - (low + high) / 2) > 0.01:
        raise UserError(f"its setting camera.{key}.mean is not the middle of the bounds, as ours is.")
    return low, high


def _early_camera(settings: Settings) -> dict[str, Any]:
    """Cameras in the settings of EpiGRAF's first code, `dataset.sampling`."""
    sampling = _section(settings, "dataset.sampling.")
    prior = _prior(sampling.get("dist"))
    spread = {"yaw": _number(sampling, "horizontal_stddev"), "pitch": _number(sampling, "vertical_stddev")}
    mean = {"yaw": _number(sampling, "horizontal_mean"), "pitch": _number(sampling, "vertical_mean")}
    # The half-width of a uniform prior is stored as its deviation.
    reach = spread if prior == "uniform" else {"yaw": math.pi / 2, "pitch": math.pi / 4}
    fov = _number(sampling, "fov")
    return {
        "prior": prior,
        **{angle: (mean[angle] - reach[angle], mean[angle] + reach[angle]) for angle in mean},
        "yaw_std": spread["yaw"],
        "pitch_std": spread["pitch"],
        "fov": (fov, fov),
        "radius": _number(sampling, "radius"),
        "look_at_radius": (0.0, 0.0),
        "ray_start": _number(sampling, "ray_start"),
        "ray_end": _number(sampling, "ray_end"),
    }
