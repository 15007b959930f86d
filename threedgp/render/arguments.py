"""Checks of what callers hand to the renderer; every error names the argument and what was expected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from threedgp.render.field_reference import Decoder


def expect_shape(name: str, tensor: Tensor, expected: tuple[int | str, ...]) -> None:
    """Raise ValueError unless `tensor` has the shape; strings stand for any size."""
    fits = tensor.ndim == len(expected) and all(
        isinstance(size, str) or size == actual for size, actual in zip(expected, tensor.shape, strict=True)
    )
    if not fits:
        shape = ", ".join(str(size) for size in expected)
        raise ValueError(f"{name}: expected [{shape}], got {list(tensor.shape)}")


def expect_floating(name: str, tensor: Tensor) -> None:
    """Raise ValueError unless `tensor` holds real floating numbers."""
    if not tensor.is_floating_point():
        raise ValueError(f"{name}: expected a floating dtype, got {tensor.dtype}")


def expect_like(name: str, tensor: Tensor, like: Tensor, like_name: str) -> None:
    """Raise ValueError unless `tensor` is on the device and of the dtype of `like`."""
    if tensor.device != like.device:
        raise ValueError(f"{name}: expected on {like.device} like {like_name}, got {tensor.device}")
    if tensor.dtype != like.dtype:
        raise ValueError(f"{name}: expected {like.dtype} like {like_name}, got {tensor.dtype}")


def expect_along_rays(name: str, tensor: Tensor, least: int) -> None:
    """Raise ValueError unless `tensor` is `[..., S]` of floating numbers, S at least `least`."""
    if not tensor.ndim or tensor.shape[-1] < least:
        count = {0: "", 1: " with at least one sample"}.get(least, f" with at least {least} samples")
        raise ValueError(f"{name}: expected [..., S]{count}, got {list(tensor.shape)}")
    expect_floating(name, tensor)


def expect_three_coordinates(name: str, points: Tensor, dim: int) -> None:
    """Raise ValueError unless `points` are floating numbers, three along `dim`."""
    if not -points.ndim <= dim < points.ndim or points.shape[dim] != 3:
        raise ValueError(f"{name}: expected three coordinates along dimension {dim}, got {list(points.shape)}")
    expect_floating(name, points)


def expect_interval(near: float, far: float) -> None:
    """Raise ValueError unless rays run from `near` to something further."""
    if not -math.inf < near < far < math.inf:
        raise ValueError(f"near, far: expected numbers with near < far, got {near} and {far}")


def expect_half_width(half_width: float) -> None:
    """Raise ValueError unless `half_width` is that of a cube."""
    if not 0 < half_width < math.inf:
        raise ValueError(f"half_width: expected a positive number, got {half_width}")


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
    """Raise ValueError for the first argument of the field that does not fit the others.

    `like_name` is what the caller knows `distances` by: the dtype and device that the others are to have are theirs.
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
    for name, tensor in (("origins", origins), ("directions", directions), *decoder._asdict().items()):
        expect_like(name if name in ("origins", "directions") else f"decoder.{name}", tensor, distances, like_name)
    expect_half_width(half_width)


def check_decoder(decoder: Decoder, channels: int) -> None:
    """Raise ValueError unless the layers of `decoder` fit each other and planes of so many channels."""
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


def check_second_pass(u_first: Tensor, u: Tensor, noise: Tensor | None) -> None:
    """Raise ValueError unless the random numbers of a second pass belong to those `[B, R, S_c]` of a first."""
    expect_shape("randomness.fine", u, (*u_first.shape[:2], "S_f"))
    expect_like("randomness.fine", u, u_first, "randomness.coarse")
    check_noise("randomness.fine_noise", noise, u, "randomness.fine")
    if u.shape[-1] and u_first.shape[-1] < 2:
        raise ValueError(
            f"randomness.coarse: expected [B, R, S_c] with at least 2 samples, got {list(u_first.shape)}; "
            "a first pass alone has randomness.fine of [B, R, 0]"
        )


def check_samples(
    samples: Tensor, distances: Tensor, samples_name: str = "samples", distances_name: str = "distances"
) -> None:
    """Raise ValueError unless `samples` `[..., S, 4]` belong to `distances` `[..., S]`, S at least 1."""
    expect_along_rays(distances_name, distances, least=1)
    expect_shape(samples_name, samples, (*distances.shape, 4))
    expect_floating(samples_name, samples)
    expect_like(distances_name, distances, samples, samples_name)


def check_sets(samples: tuple[Tensor, ...], distances: tuple[Tensor, ...], infinite_last_interval: bool) -> None:
    """Raise ValueError unless there are one or two sets of samples, of the same rays."""
    if len(samples) != len(distances) or len(samples) not in (1, 2):
        raise ValueError(f"samples, distances: expected one or two sets, got {len(samples)} and {len(distances)}")
    for k, (values, at) in enumerate(zip(samples, distances, strict=True)):
        check_samples(values, at, f"samples[{k}]", f"distances[{k}]")
    if len(samples) == 2:
        expect_shape("distances[1]", distances[1], (*distances[0].shape[:-1], "S"))
        expect_like("samples[1]", samples[1], samples[0], "samples[0]")
    if infinite_last_interval and samples[0].dtype is torch.float16:
        raise ValueError("samples: torch.float16 has no number for the infinite last interval, 1e10; use torch.float32")
