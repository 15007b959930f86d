"""Checks of what callers hand to the renderer; every error names the argument and what was expected."""

from __future__ import annotations

from torch import Tensor

from threedgp.render.field_reference import Decoder


def expect_shape(name: str, tensor: Tensor, expected: tuple[int | str, ...]) -> None:
    """Raise ValueError unless `tensor` has the shape; strings stand for any size."""
    fits = tensor.ndim == len(expected) and all(
        isinstance(size, str) or size == actual for size, actual in zip(expected, tensor.shape, strict=True)
    )
    if not fits:
        shape = ", ".join(str(size) for size in expected)
        raise ValueError(f"{name}: expected [{shape}], got {list(tensor.shape)}")


def expect_like(name: str, tensor: Tensor, like: Tensor, like_name: str) -> None:
    """Raise ValueError unless `tensor` is on the device and of the dtype of `like`."""
    if tensor.device != like.device:
        raise ValueError(f"{name}: expected on {like.device} like {like_name}, got {tensor.device}")
    if tensor.dtype != like.dtype:
        raise ValueError(f"{name}: expected {like.dtype} like {like_name}, got {tensor.dtype}")


def check_field(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    distances: Tensor,
    noise: Tensor | None,
) -> None:
    """Raise ValueError for the first argument of the field that does not fit the others."""
    expect_shape("planes", planes, ("B", 3, "H", "W", "C"))
    batch, channels = planes.shape[0], planes.shape[-1]
    expect_shape("distances", distances, (batch, "R", "S"))
    rays = distances.shape[1]
    expect_shape("origins", origins, (batch, rays, 3))
    expect_shape("directions", directions, (batch, rays, 3))
    if decoder.weight_1.ndim != 2 or decoder.weight_1.shape[1] != channels:
        raise ValueError(f"decoder: takes {decoder.weight_1.shape[-1]} features, planes have {channels}")
    hidden = decoder.weight_1.shape[0]
    expect_shape("decoder.bias_1", decoder.bias_1, (hidden,))
    expect_shape("decoder.weight_2", decoder.weight_2, (4, hidden))
    expect_shape("decoder.bias_2", decoder.bias_2, (4,))
    if not planes.is_floating_point():
        raise ValueError(f"planes: expected a floating dtype, got {planes.dtype}")
    if planes.device != distances.device:
        raise ValueError(f"planes: expected on {distances.device} like distances, got {planes.device}")
    for name, tensor in (("origins", origins), ("directions", directions), *decoder._asdict().items()):
        expect_like(name if name in ("origins", "directions") else f"decoder.{name}", tensor, distances, "distances")
    check_noise("noise", noise, distances)


def check_noise(name: str, noise: Tensor | None, distances: Tensor, like_name: str = "distances") -> None:
    """Raise ValueError unless `noise` is None or of the shape, dtype and device of `distances`."""
    if noise is not None:
        expect_shape(name, noise, tuple(distances.shape))
        expect_like(name, noise, distances, like_name)


def check_second_pass(distances: Tensor, u: Tensor, noise: Tensor | None) -> None:
    """Raise ValueError unless the random numbers of a second pass belong to the `distances` `[B, R, S]` of a first."""
    expect_shape("randomness.fine", u, (*distances.shape[:2], "S_f"))
    expect_like("randomness.fine", u, distances, "randomness.coarse")
    check_noise("randomness.fine_noise", noise, u, "randomness.fine")
    if u.shape[-1] and distances.shape[-1] < 2:
        raise ValueError(
            f"randomness.coarse: expected [B, R, S_c] with at least 2 samples, got {list(distances.shape)}; "
            "a first pass alone has randomness.fine of [B, R, 0]"
        )


def check_samples(samples: Tensor, distances: Tensor) -> None:
    """Raise ValueError unless `samples` `[..., S, 4]` belong to `distances` `[..., S]`, S at least 1."""
    if not distances.shape or distances.shape[-1] == 0:
        raise ValueError(f"distances: expected [..., S] with at least one sample, got {list(distances.shape)}")
    expect_shape("samples", samples, (*distances.shape, 4))
    expect_like("distances", distances, samples, "samples")
