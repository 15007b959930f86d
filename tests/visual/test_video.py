"""Films are H.264 that browsers play, decode to what was put in, and have the same bytes each time."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from films import decode
from threedgp.runtime.errors import UserError
from threedgp.visual.video import write_video

HEIGHT, WIDTH = 45, 71  # odd, as images may be
MIN_PSNR = 35
"""Decibels at the default quality, which reaches 36.5 here; color at half the resolution alone allows 48. A frame out
of its place reaches 13, the wrong color matrix 28."""


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """Smooth waves that move."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]

    def wave(time: int) -> np.ndarray:
        colors = (np.sin(x / 9 + time), np.sin(y / 7 - time), np.cos((x + y) / 11 + time / 2))
        return np.stack([127 + 100 * color for color in colors], axis=-1).round().astype(np.uint8)

    return [wave(time) for time in range(12)]


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.square(found.astype(float) - expected).mean())


def test_decodes_to_the_frames(tmp_path, frames):
    write_video(tmp_path / "flight.mp4", frames, 24)
    decoded = decode(tmp_path / "flight.mp4")
    assert len(decoded) == len(frames)
    for found, frame in zip(decoded, frames, strict=True):
        assert found.shape == (HEIGHT + 1, WIDTH + 1, 3)
        assert psnr(found[:HEIGHT, :WIDTH], frame) > MIN_PSNR
        # What was added continues the image.
        assert psnr(found[HEIGHT, :WIDTH], frame[-1]) > MIN_PSNR - 5
    assert psnr(decoded[0][:HEIGHT, :WIDTH], frames[1]) < 20


def test_is_what_browsers_play(tmp_path, frames):
    write_video(tmp_path / "flight.mp4", frames, 30)
    with av.open(str(tmp_path / "flight.mp4")) as film:
        stream = film.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.profile) == ("h264", "yuv420p", "High")
        assert stream.average_rate == 30
        assert stream.frames == len(frames)
        assert context.colorspace == Colorspace.ITU709
    content = (tmp_path / "flight.mp4").read_bytes()
    assert content[4:8] == b"ftyp"
    assert b"avc1" in content
    assert content.index(b"moov") < content.index(b"mdat")  # plays before it is loaded


def test_same_bytes(tmp_path, frames):
    """However used the memory is that the encoder gets: libx264's own choice of instructions lets it show in one of
    twelve films, and so in 99 % of the runs of this test."""
    generator = np.random.default_rng(0)

    def film() -> bytes:
        held = [generator.integers(256, size=size, dtype=np.uint8) for size in generator.integers(1000, 200_000, 20)]
        assert held
        write_video(tmp_path / "film.mp4", iter(frames), 24)
        return (tmp_path / "film.mp4").read_bytes()

    assert len({film() for _ in range(50)}) == 1


def test_quality_is_a_setting(tmp_path, frames):
    for crf in (1, 40):
        write_video(tmp_path / f"{crf}.mp4", frames, 24, crf)
    fine, coarse = (psnr(decode(tmp_path / f"{crf}.mp4")[:, :HEIGHT, :WIDTH], np.stack(frames)) for crf in (1, 40))
    assert fine > 45 > 35 > coarse
    for crf in (0, 52):
        with pytest.raises(ValueError, match="crf: expected 1 to 51"):
            write_video(tmp_path / "none.mp4", frames, 24, crf)


def test_wrong_frames_leave_no_file(tmp_path, frames):
    with pytest.raises(ValueError, match="at least one"):
        write_video(tmp_path / "flight.mp4", [], 24)
    with pytest.raises(ValueError, match="expected"):
        write_video(tmp_path / "flight.mp4", [frames[0], frames[1][:-1]], 24)
    assert not list(tmp_path.iterdir())


def test_missing_encoder_is_told(tmp_path, frames, monkeypatch):
    monkeypatch.setattr("threedgp.visual.video.CODEC", "none")
    with pytest.raises(UserError, match=r"cannot write H\.264"):
        write_video(tmp_path / "flight.mp4", frames, 24)
    assert not list(tmp_path.iterdir())
