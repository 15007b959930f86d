"""Camera flights as video that browsers play: H.264 in MP4, by the encoder (libx264) inside PyAV's wheel."""

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
"""Constant rate factor of H.264: 1 = best, 51 = worst; from 18 down the eye sees no loss. (0 would be lossless, in a
profile that browsers do not play.)"""
CHROMA_IN_THE_MIDDLE = "chromaloc=1"
"""Each colour sample is the mean of four pixels. Players that are not told put it half a pixel to the left."""
SAME_ON_EVERY_PROCESSOR = "cpu-independent=1"
"""libx264 plans its bits by instructions of the processor at hand. Those for AVX-512 do not even repeat themselves: of
150 equal films of 72x46 pixels 13 differed (libx264 core 165); with this, none of 1,500."""
THREADS = 1
"""The bytes depend on how many threads encode, so it is not left to the machine. One is fast enough: rendering takes
far longer."""


def write_video(target: Path, frames: Iterable[np.ndarray], frames_per_second: float, crf: int = CRF) -> None:
    """Write uint8 RGB frames, each `[H, W, 3]`, to `target`, all or nothing. The same frames give the same bytes.

    Colour is stored at half the resolution (4:2:0), which every browser decodes and which needs even sides: an odd
    picture is continued by its last row and column. The index comes first in the file, so that it plays while loading.

    Args:
        target: ends on .mp4.
        frames: at least one, all of one size.
        frames_per_second: of the film.
        crf: quality, 1 to 51.

    Raises:
        ValueError: there is no frame, one differs in size from the first, or `crf` is out of its range.
        UserError: this PyAV has no H.264 encoder.
    """
    if not 1 <= crf <= 51:
        raise ValueError(f"crf: expected 1 to 51, got {crf}")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("frames: a film has at least one")
    with atomic_path(target) as temporary:
        # No version of the writing library goes into the header.
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with av.open(str(temporary), "w", format="mp4", options=options) as film:
            stream = _open_stream(film, target, first.shape, Fraction(frames_per_second).limit_denominator(1001), crf)
            film.mux(stream.encode(_encodable(first)))
            for frame in frames:
                if frame.shape != first.shape:
                    raise ValueError(f"frames: expected {first.shape}, got {frame.shape}")
                film.mux(stream.encode(_encodable(frame)))
            film.mux(stream.encode(None))


def _open_stream(
    film: av.container.OutputContainer, target: Path, shape: tuple[int, ...], rate: Fraction, crf: int
) -> av.VideoStream:
    try:
        stream = film.add_stream(
            CODEC,
            rate=rate,
            options={
                "crf": str(crf),
                "profile": "high",
                "x264-params": f"{CHROMA_IN_THE_MIDDLE}:{SAME_ON_EVERY_PROCESSOR}",
            },
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
    # Said in the file: players guess otherwise, and guess differently for small and for large pictures.
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


def _encodable(picture: np.ndarray) -> av.VideoFrame:
    height, width = picture.shape[:2]
    even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
    return frame.reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND,  # otherwise a level darker
    )
