"""Camera flights as video that browsers play.

The encoder is the one inside OpenCV's wheel, so that nothing has to be installed. Of what it can write, browsers play
VP8 and VP9; H.264 it cannot write. VP9 goes into MP4, not WebM: WebM's writer puts random identifiers into the file,
and the same flight should be the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from threedgp.atomic import atomic_path
from threedgp.errors import UserError

SUFFIX = ".mp4"
MIME = "video/mp4"
CODEC = "vp09"


def write_video(target: Path, frames: np.ndarray, frames_per_second: float) -> None:
    """Write uint8 RGB frames `[F, H, W, 3]` with even sides to `target`, all or nothing.

    Raises:
        UserError: this build of OpenCV has no VP9 encoder.
    """
    height, width = frames.shape[1:3]
    with atomic_path(target) as temporary:
        codec = cv2.VideoWriter_fourcc(*CODEC)
        writer = cv2.VideoWriter(str(temporary), cv2.CAP_FFMPEG, codec, frames_per_second, (width, height))
        if not writer.isOpened():
            raise UserError(
                f"{target}: this OpenCV ({cv2.__version__}) cannot write VP9; run `pip install opencv-python`, "
                "or set render.flights to 0."
            )
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
