"""Device functions of the field's kernels: plane coordinates, the bilinear gather of texels, and their gradients.

Offsets inside a plane are in elements; strides are in texels, which tells the compiler that texels are aligned.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def coordinates(x, y, z, inverse_half_width, CONTRACT: tl.constexpr):
    """Coordinates on the planes, in [-1, 1] inside, of a position in scene units."""
    x, y, z = x * inverse_half_width, y * inverse_half_width, z * inverse_half_width
    if CONTRACT:
        norm = tl.sqrt(x * x + y * y + z * z)
        beyond = tl.where(norm > 1.0, norm, 1.0)
        factor = 0.5 * (2.0 - 1.0 / beyond) / beyond
        x, y, z = x * factor, y * factor, z * factor
    return x, y, z


@triton.jit
def position_gradient(x, y, z, gx, gy, gz, inverse_half_width, CONTRACT: tl.constexpr):
    """Gradient of a position in scene units, given the gradient of its coordinates on the planes."""
    if CONTRACT:
        x, y, z = x * inverse_half_width, y * inverse_half_width, z * inverse_half_width
        norm = tl.sqrt(x * x + y * y + z * z)
        beyond = tl.where(norm > 1.0, norm, 1.0)
        inverse = 1.0 / beyond
        factor = 0.5 * (2.0 - inverse) * inverse
        # Derivative of the factor along the radius, divided by the radius; it is 0 inside the unit ball.
        slope = tl.where(norm > 1.0, (inverse - 1.0) * inverse * inverse * inverse, 0.0)
        radial = (x * gx + y * gy + z * gz) * slope
        gx, gy, gz = factor * gx + radial * x, factor * gy + radial * y, factor * gz + radial * z
    return gx * inverse_half_width, gy * inverse_half_width, gz * inverse_half_width


@triton.jit
def _texel(coordinate, size):
    """Index of the texel below a coordinate, and the distance from it in texels."""
    position = (coordinate + 1.0) * ((size - 1) * 0.5)
    # Clamped to the range of int32; both texels are beyond the border there.
    position = tl.minimum(tl.maximum(position, -2.0), size * 1.0)
    below = tl.floor(position)
    return below.to(tl.int32), position - below


@triton.jit
def _offsets(row, column, stride_h, stride_w, C: tl.constexpr, WIDE: tl.constexpr):
    """Offsets of texels' first channels inside a plane, in elements (strides are in texels)."""
    if WIDE:
        row, column = row.to(tl.int64), column.to(tl.int64)
    return (row * stride_h + column * stride_w) * C


@triton.jit
def _load_texel(plane, row, column, valid, height, width, stride_h, stride_w, C: tl.constexpr, WIDE: tl.constexpr):
    inside = valid & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    offsets = _offsets(row, column, stride_h, stride_w, C, WIDE)
    pointers = plane + offsets[:, None] + tl.arange(0, C)[None, :]
    return tl.load(pointers, mask=inside[:, None], other=0.0).to(tl.float32)


@triton.jit
def gather(
    plane,
    across,
    up,
    valid,
    height,
    width,
    stride_h,
    stride_w,
    C: tl.constexpr,
    WIDE: tl.constexpr,
    SLOPES: tl.constexpr,
):
    """Bilinear features of one plane `[M, C]` and, with SLOPES, their derivatives along both axes."""
    column, x = _texel(across, width)
    row, y = _texel(up, height)
    x, y = x[:, None], y[:, None]
    v00 = _load_texel(plane, row, column, valid, height, width, stride_h, stride_w, C, WIDE)
    v01 = _load_texel(plane, row, column + 1, valid, height, width, stride_h, stride_w, C, WIDE)
    v10 = _load_texel(plane, row + 1, column, valid, height, width, stride_h, stride_w, C, WIDE)
    v11 = _load_texel(plane, row + 1, column + 1, valid, height, width, stride_h, stride_w, C, WIDE)
    low, high = v00 + x * (v01 - v00), v10 + x * (v11 - v10)
    features = low + y * (high - low)
    if SLOPES:
        along_columns = ((v01 - v00) + y * ((v11 - v10) - (v01 - v00))) * ((width - 1) * 0.5)
        along_rows = (high - low) * ((height - 1) * 0.5)
        return features, along_columns, along_rows
    else:
        return features, features, features


@triton.jit
def _scatter_texel(
    plane, gradient, weight, row, column, valid, height, width, stride_h, stride_w, C: tl.constexpr, WIDE: tl.constexpr
):
    inside = valid & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    offsets = _offsets(row, column, stride_h, stride_w, C, WIDE)
    pointers = plane + offsets[:, None] + tl.arange(0, C)[None, :]
    tl.atomic_add(pointers, gradient * weight[:, None], mask=inside[:, None], sem="relaxed")


@triton.jit
def scatter(plane, gradient, across, up, valid, height, width, stride_h, stride_w, C: tl.constexpr, WIDE: tl.constexpr):
    """Add the gradient of features `[M, C]` to the four texels of one plane that they are interpolated from."""
    column, x = _texel(across, width)
    row, y = _texel(up, height)
    _scatter_texel(
        plane, gradient, (1.0 - x) * (1.0 - y), row, column, valid, height, width, stride_h, stride_w, C, WIDE
    )
    _scatter_texel(plane, gradient, x * (1.0 - y), row, column + 1, valid, height, width, stride_h, stride_w, C, WIDE)
    _scatter_texel(plane, gradient, (1.0 - x) * y, row + 1, column, valid, height, width, stride_h, stride_w, C, WIDE)
    _scatter_texel(plane, gradient, x * y, row + 1, column + 1, valid, height, width, stride_h, stride_w, C, WIDE)
