"""LMDB files that map names to encoded images: read-only, without locks, from several threads and processes.

One kind of damage is not detected: LMDB does not compare the size that a leaf page claims for a value with the end of
the file, so loading such a value may crash the process.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

import lmdb
import pyarrow as pa

from threedgp.data.archives.pictures import BadPicture, check_size
from threedgp.runtime.errors import UserError

DATA = "data.mdb"

_OPENED: dict[tuple[int, int, int], lmdb.Environment] = {}
"""By process and file (device, inode): a file must not be opened twice in a process, nor be used after a fork."""
_OPENING = threading.Lock()


def open_lmdb(file: Path) -> lmdb.Environment:
    """Open the file of an LMDB (`data.mdb`), once in a process.

    Raises:
        UserError: it is not an LMDB, or is truncated.
    """
    status = file.stat()
    key = os.getpid(), status.st_dev, status.st_ino
    with _OPENING:
        if key not in _OPENED:
            try:
                environment = lmdb.open(
                    str(file), subdir=False, readonly=True, lock=False, readahead=False, create=False
                )
            except (lmdb.Error, OSError) as error:
                raise UserError(f"{file}: is not an LMDB, or is damaged ({error}); download it again.") from None
            # LMDB maps the file into memory: access to a missing page would crash the process.
            size = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            if status.st_size < size:
                environment.close()
                raise UserError(f"{file}: truncated: it has {status.st_size} bytes, not {size}; download it again.")
            _OPENED[key] = environment
        return _OPENED[key]


def count_keys(file: Path) -> int:
    """Number of values in an LMDB."""
    return int(open_lmdb(file).stat()["entries"])


def list_keys(file: Path) -> pa.Array:
    """The keys of an LMDB as strings, in their order; no value is read.

    A child process lists them, because LMDB aborts the process on some damaged pages, such as the zeros that a gap in
    a download leaves.

    Raises:
        UserError: the LMDB is damaged, or a key is not UTF-8.
    """
    open_lmdb(file)
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_read_keys, file).result().cast(pa.string())
    except BrokenProcessPool:
        raise UserError(f"{file}: is damaged (LMDB crashes on it); download it again.") from None
    except lmdb.Error as error:
        raise UserError(f"{file}: is damaged ({error}); download it again.") from None
    except pa.ArrowInvalid:
        raise UserError(
            f"{file}: has keys that are not UTF-8; it is damaged, or is not an LMDB of images like those of LSUN."
        ) from None


def _read_keys(file: Path) -> pa.Array:
    with open_lmdb(file).begin() as transaction, transaction.cursor() as cursor:
        count = count_keys(file)
        # Damaged pages may form a cycle.
        keys = pa.array(islice(cursor.iternext(keys=True, values=False), count + 1), pa.binary())
    if len(keys) != count:
        raise lmdb.CorruptedError(f"it does not list {count} keys, as it should")
    return keys


class LmdbStore:
    """Images in an LMDB, found by their ids."""

    def __init__(self, file: Path) -> None:
        self._file = file
        open_lmdb(file)

    def load(self, entries: pa.Table) -> Iterator[bytes | BadPicture]:
        environment = open_lmdb(self._file)
        for name in entries["id"]:
            yield _value(environment, name.as_py().encode())


def _value(environment: lmdb.Environment, key: bytes) -> bytes | BadPicture:
    try:
        with environment.begin(buffers=True) as transaction:  # a damaged page invalidates its whole transaction
            value = transaction.get(key)
            if value is None:
                return BadPicture("the key is no longer there")
            return check_size(len(value)) or bytes(value)
    except lmdb.Error as error:
        return BadPicture(f"cannot be read from the LMDB: {error}")
