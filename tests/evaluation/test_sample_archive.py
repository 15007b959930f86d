"""Archives of samples are what NumPy, and with it the evaluator of ADM, reads."""

from __future__ import annotations

import numpy as np

from threedgp.evaluation.sample_archive import write_archive
from threedgp.metrics.streams import Stream

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 5), dtype=np.uint8)
STREAM = Stream(7, [lambda: PICTURES[:4], lambda: PICTURES[4:]])


def test_numpy_reads_it(tmp_path):
    write_archive(tmp_path / "samples.npz", STREAM, np.arange(7, dtype=np.int32))
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as archive:
        assert archive.files == ["arr_0", "arr_1"]
        assert archive["arr_0"].dtype == np.uint8
        np.testing.assert_array_equal(archive["arr_0"], PICTURES.transpose(0, 2, 3, 1))
        assert archive["arr_1"].dtype == np.int64
        assert archive["arr_1"].tolist() == list(range(7))


def test_without_labels_and_twice_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_archive(tmp_path / name, STREAM)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert np.load(tmp_path / "a.npz").files == ["arr_0"]
