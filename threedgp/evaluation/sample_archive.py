"""Samples as the NPZ file that ADM's evaluator reads (Dhariwal and Nichol 2021, arXiv 2105.05233): `arr_0` holds the
pictures, `arr_1` their classes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from threedgp.metrics.streams import Stream
from threedgp.runtime.atomic import atomic_path, require_free

PICTURES, LABELS = "arr_0", "arr_1"
_DATE = (1980, 1, 1, 0, 0, 0)
"""Equal samples are equal bytes."""


def write_archive(file: Path, pictures: Stream, labels: np.ndarray | None = None) -> None:
    """Write all pictures, a batch at a time, so that 50,000 of them need no memory.

    Args:
        file: ends in .npz.
        pictures: uint8 batches `[n, 3, R, R]`; the file holds `[N, R, R, 3]`.
        labels: int `[N]`, written as int64; None leaves them out.

    Raises:
        UserError: too little space.
    """
    resolution = next(iter(pictures)).shape[-1]
    require_free(file.parent, len(pictures) * 3 * resolution**2)
    shape = (len(pictures), resolution, resolution, 3)
    with atomic_path(file) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        about = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with archive.open(zipfile.ZipInfo(f"{PICTURES}.npy", _DATE), "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, about)
            for batch in pictures:
                member.write(np.ascontiguousarray(batch.transpose(0, 2, 3, 1)).tobytes())
        if labels is not None:
            with archive.open(zipfile.ZipInfo(f"{LABELS}.npy", _DATE), "w") as member:
                np.lib.format.write_array(member, np.asarray(labels, np.int64), allow_pickle=False)
