"""Checks of the renderer's arguments; every error names the argument and what was expected."""

from __future__ import annotations

import math

from torch import Tensor

from threedgp.render.decoder import Decoder


def expect_shape(name: str, tensor: Tensor, expected: tuple[int | str, ...]) -> None:
    """Raise ValueError unless `tensor` has the shape; strings stand for any size."""
    fits = tensor.ndim == len(expected) and all(
        isinstance(size, str) or size == actual for size, actual in zip(expected, tensor.shape, strict=True)
    )
    if not fits:
        shape = ", ".join(str(size) for size in expected)
        raise ValueError(f"{name}: expected [{shape}], got {list(tensor.shape)}")


def expect_floating(name: str, tensor: Tensor) -> None:
    """Raise ValueError unless `tensor` has a real floating dtype."""
    if not tensor.is_floating_point():
        raise ValueError(f"{name}: expected a floating dtype, got {tensor.dtype}")


def expect_like(name: str, tensor: Tensor, like: Tensor, like_name: str) -> None:
    """Raise ValueError unless `tensor` is on the device and of the dtype of `like`."""
    if tensor.device != like.device:
        raise ValueError(f"{name}: expected on {like.device} like {like_name}, got {tensor.device}")
    if tensor.dtype != like.dtype:
        raise ValueError(f"{name}: expected {like.dtype} like {like_name}, got {tensor.dtype}")


def expect_along_rays(name: str, tensor: Tensor, min_samples: int) -> None:
    """Raise ValueError unless `tensor` is `[..., S]` of a floating dtype, S at least `min_samples`."""
    if not tensor.ndim or tensor.shape[-1] < min_samples:
        count = {0: "", 1: " with at least one sample"}.get(min_samples, f" with at least {min_samples} samples")
        raise ValueError(f"{name}: expected [..., S]{count}, got {list(tensor.shape)}")
    expect_floating(name, tensor)


def expect_points(points: Tensor) -> None:
    """Raise ValueError unless `points` are `[..., 3]` of a floating dtype."""
    if points.shape[-1:] != (3,):
        raise ValueError(f"points: expected [..., 3], got {list(points.shape)}")
    expect_floating("points", points)


def expect_interval(near: float, far: float) -> None:
    """Raise ValueError unless `near` and `far` are finite and `near` is less than `far`."""
    if not -math.inf < near < far < math.inf:
        raise ValueError(f"near, far: expected numbers with near < far, got {near} and {far}")


def check_planes(planes: Tensor) -> None:
    """Raise ValueError unless `planes` are tri-planes with at least one texel and one channel."""
    expect_shape("planes", planes, ("B", 3, "H", "W", "C"))
    if not all(planes.shape[2:]):
        raise ValueError(f"planes: expected [B, 3, H, W, C] with H, W and C at least 1, got {list(planes.shape)}")
    expect_floating("planes", planes)


def check_field(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    distances: Tensor,
    half_width: float,
    like_name: str = "distances",
) -> None:
    """Raise ValueError for the first argument of the field that is not consistent with the others.

    Messages call `distances` `like_name`. Their dtype and device are those that the other arguments must have.
    """
    check_planes(planes)
    batch, channels = planes.shape[0], planes.shape[-1]
    expect_shape(like_name, distances, (batch, "R", "S"))
    expect_floating(like_name, distances)
    rays = distances.shape[1]
    expect_shape("origins", origins, (batch, rays, 3))
    expect_shape("directions", directions, (batch, rays, 3))
    check_decoder(decoder, channels)
    if planes.device != distances.device:
        raise ValueError(f"planes: expected on {distances.device} like {like_name}, got {planes.device}")
    # PyTorch 2.8 cannot compile `_asdict`.
    layers = {f"decoder.{name}": layer for name, layer in zip(Decoder._fields, decoder, strict=True)}
    for name, tensor in {"origins": origins, "directions": directions, **layers}.items():
        expect_like(name, tensor, distances, like_name)
    if not 0 < half_width < math.inf:
        raise ValueError(f"half_width: expected a positive number, got {half_width}")


def check_decoder(decoder: Decoder, channels: int) -> None:
    """Raise ValueError unless the layers of `decoder` fit each other and planes of `channels` channels."""
    if decoder.weight_1.ndim != 2 or not decoder.weight_1.shape[0]:
        raise ValueError(f"decoder.weight_1: expected [H, {channels}], got {list(decoder.weight_1.shape)}")
    hidden, features = decoder.weight_1.shape
    if features != channels:
        raise ValueError(f"decoder: takes {features} features, planes have {channels}")
    expect_shape("decoder.bias_1", decoder.bias_1, (hidden,))
    expect_shape("decoder.weight_2", decoder.weight_2, (4, hidden))
    expect_shape("decoder.bias_2", decoder.bias_2, (4,))


def check_noise(name: str, noise: Tensor | None, distances: Tensor, like_name: str = "distances") -> None:
    """Raise ValueError unless `noise` is None or of the shape, dtype and device of `distances`."""
    if noise is not None:
        expect_shape(name, noise, tuple(distances.shape))
        expect_like(name, noise, distances, like_name)


def check_sets(
    samples: tuple[Tensor, ...], distances: tuple[Tensor, ...], samples_names: list[str], distances_names: list[str]
) -> None:
    """Raise ValueError unless there are one or two sets of samples `[..., S, 4]` at distances `[..., S]` of the same
    rays, S at least 1."""
    if len(samples) != len(distances) or len(samples) not in (1, 2):
        raise ValueError(f"samples, distances: expected one or two sets, got {len(samples)} and {len(distances)}")
    for values, t, name, t_name in zip(samples, distances, samples_names, distances_names, strict=True):
        expect_along_rays(t_name, t, min_samples=1)
        expect_shape(name, values, (*t.shape, 4))
        expect_floating(name, values)
        expect_like(t_name, t, values, name)
    if len(samples) == 2:
        expect_shape("distances[1]", distances[1], (*distances[0].shape[:-1], "S"))
        expect_like("samples[1]", samples[1], samples[0], "samples[0]")
