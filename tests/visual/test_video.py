"""The flight is a VP9 film that decodes to what was put in, and the same bytes each time."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from threedgp.errors import UserError
from threedgp.visual.video import write_video


@pytest.fixture
def frames() -> np.ndarray:
    """A red bar that moves to the right."""
    frames = np.full((8, 32, 64, 3), 60, np.uint8)
    for number, frame in enumerate(frames):
        frame[:, 8 * number : 8 * number + 8] = (230, 30, 30)
    return frames


def test_decodes_to_the_frames(tmp_path, frames):
    write_video(tmp_path / "flight.mp4", frames, 24)
    film = cv2.VideoCapture(str(tmp_path / "flight.mp4"))
    assert film.get(cv2.CAP_PROP_FPS) == 24
    decoded = [film.read()[1][..., ::-1] for _ in frames]
    assert not film.read()[0]
    for found, frame in zip(decoded, frames, strict=True):
        assert found.shape == frame.shape
        # Lossy, with colour at half the resolution; a frame out of its place would differ by 170 in the bar.
        assert np.abs(found.astype(int) - frame).mean() < 12


def test_is_vp9_in_mp4_and_the_same_bytes(tmp_path, frames):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames, 24)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content == (tmp_path / "b.mp4").read_bytes()
    assert b"ftyp" in content[:16]
    assert b"vp09" in content


def test_missing_encoder_is_told(tmp_path, frames, monkeypatch):
    monkeypatch.setattr("threedgp.visual.video.CODEC", "none")
    with pytest.raises(UserError, match="cannot write VP9"):
        write_video(tmp_path / "flight.mp4", frames, 24)
    assert not list(tmp_path.iterdir())
