"""All features of a data set in one file of plain values, which may be larger than memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from threedgp.data.shards import ShardFolder
from threedgp.runtime.atomic import require_free, write_json
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress


class RowsOnDisk:
    """Rows `[N, D]` of float32 in a file. Slices are rows on disk again; `numpy.asarray` reads them.

    The file is not memory-mapped, since its pages would count as memory of this process.
    """

    def __init__(self, path: Path, dim: int, start: int, stop: int) -> None:
        self._path, self._start, self.shape = path, start, (stop - start, dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> RowsOnDisk:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError("slices of rows on disk must be contiguous")
        return RowsOnDisk(self._path, self.shape[1], self._start + start, self._start + max(start, stop))

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> NDArray:
        count, dim = self.shape
        values = np.fromfile(self._path, np.float32, count * dim, offset=self._start * dim * 4)
        return values.reshape(count, dim).astype(dtype or np.float32, copy=False)


def gather_features(features: ShardFolder, places: NDArray[np.int64], path: Path) -> RowsOnDisk:
    """Write all features to the file `path`: row i of the shards becomes row `places[i]`. Resumes after a stop.

    Raises:
        UserError: a feature is not finite, or there is too little disk space.
    """
    dim = features.schema.field("feature").type.list_size
    record = path.with_suffix(".json")  # number of shards in the file
    done = json.loads(record.read_text()) if record.exists() else 0
    path.parent.mkdir(parents=True, exist_ok=True)
    if not done:
        require_free(path.parent, len(places) * dim * 4)
    starts = np.cumsum([0, *(file.rows for file in features.manifest.files)])
    with progress("select: gather", len(places), done=int(starts[done])) as bar:
        for shard in range(done, len(features)):
            table = features.read(shard, ["id", "feature"])
            values = table["feature"].combine_chunks().flatten().to_numpy().reshape(-1, dim)
            finite = np.isfinite(values).all(axis=1)
            if not finite.all():
                name = table["id"][int(np.argmin(finite))].as_py()
                raise UserError(f"{features.folder}: the features of {name} are not finite; check this image.")
            _put(path, (len(places), dim), places[starts[shard] : starts[shard + 1]], values)
            write_json(record, shard + 1)
            bar.advance(len(values))
    return RowsOnDisk(path, dim, 0, len(places))


def _put(path: Path, shape: tuple[int, int], places: NDArray[np.int64], values: NDArray[np.float32]) -> None:
    if not len(values):
        return
    gathered = np.memmap(path, np.float32, "r+" if path.exists() else "w+", shape=shape)
    gathered[places] = values
    gathered.flush()  # the mapping ends here: its pages would count as memory of this process
