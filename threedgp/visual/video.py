"""Videos that browsers play: H.264 in MP4, encoded by libx264, which is part of PyAV's wheel."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from threedgp.runtime.atomic import atomic_path
from threedgp.runtime.errors import UserError

SUFFIX = ".mp4"
MIME = "video/mp4"
CODEC = "libx264"
CRF = 18
"""Constant rate factor: 1 = best, 51 = worst; no loss is visible up to 18. (0 is lossless, in a profile that browsers
do not play.)"""
X264_PARAMS = "chromaloc=1:cpu-independent=1"
"""chromaloc: each chroma sample is the mean of four pixels; by default, players place it half a pixel to the left.
cpu-independent: the result depends on the instruction set otherwise, and is not even deterministic with AVX-512 (13 of
150 equal videos differed with libx264 core 165; with this option, none of 1,500)."""
THREADS = 1
"""The bytes depend on the number of threads. Rendering takes far longer than encoding with one thread."""


def write_video(target: Path, frames: Iterable[np.ndarray], frames_per_second: float, crf: int = CRF) -> None:
    """Write uint8 RGB frames `[H, W, 3]`, all of one size, to the .mp4 file `target` atomically. The same frames give
    the same bytes.

    Chroma is stored at half the resolution (4:2:0), which every browser decodes. This needs even sides, so the last row
    and column of an odd image are repeated. The index comes first, so that the video plays while loading.

    Raises:
        ValueError: there is no frame, the sizes of frames differ, or `crf` is out of range.
        UserError: this PyAV has no H.264 encoder.
    """
    if not 1 <= crf <= 51:
        raise ValueError(f"crf: expected 1 to 51, got {crf}")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("frames: expected at least one")
    with atomic_path(target) as temporary:
        # bitexact: no version of the library in the header.
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with av.open(str(temporary), "w", format="mp4", options=options) as container:
            stream = _open_stream(
                container, target, first.shape, Fraction(frames_per_second).limit_denominator(1001), crf
            )
            container.mux(stream.encode(_to_frame(first)))
            for frame in frames:
                if frame.shape != first.shape:
                    raise ValueError(f"frames: expected {first.shape}, got {frame.shape}")
                container.mux(stream.encode(_to_frame(frame)))
            container.mux(stream.encode(None))


def _open_stream(
    container: av.container.OutputContainer, target: Path, shape: tuple[int, ...], rate: Fraction, crf: int
) -> av.VideoStream:
    try:
        stream = container.add_stream(
            CODEC, rate=rate, options={"crf": str(crf), "profile": "high", "x264-params": X264_PARAMS}
        )
    except (av.FFmpegError, ValueError):
        raise UserError(
            f"{target}: this PyAV ({av.__version__}) cannot write H.264; run `pip install av`, "
            "or set render.flights and render.interpolation to 0."
        ) from None
    stream.height, stream.width = (side + side % 2 for side in shape[:2])
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.thread_count = THREADS
    # Players guess missing values, and differently for small and large videos.
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


def _to_frame(image: np.ndarray) -> av.VideoFrame:
    height, width = image.shape[:2]
    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
    return frame.reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND,  # otherwise one level darker
    )
