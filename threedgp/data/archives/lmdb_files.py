"""LMDB files that map names to encoded pictures: read-only, without locks, from several threads and processes.

Listing (`lmdb_keys`) finds damaged tree pages. One kind of damage is not found: LMDB does not compare the size that a
leaf page claims for a value with the end of the file, so loading such a value may end the process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pyarrow as pa

from threedgp.data.archives.lmdb_keys import open_unlocked, walk_keys
from threedgp.data.archives.pictures import LARGEST_FILE, BadPicture
from threedgp.runtime.errors import UserError

DATA = "data.mdb"
KEYS = pa.schema(
    [
        ("id", pa.string()),  # the key
        ("label", pa.int32()),
        ("problem", pa.string()),  # always null
    ]
)
KEYS_AT_ONCE = 2**16

_OPENED: dict[tuple[int, int, int], lmdb.Environment] = {}
"""By process and file (device, inode): none may be opened twice in a process, and none survives a fork."""
_OPENING = threading.Lock()


def open_lmdb(file: Path) -> lmdb.Environment:
    """Open the file of an LMDB (`data.mdb`), once in a process.

    Raises:
        UserError: it is none, or is cut off.
    """
    status = file.stat()
    key = os.getpid(), status.st_dev, status.st_ino
    with _OPENING:
        if key not in _OPENED:
            try:
                environment = open_unlocked(file)
            except (lmdb.Error, OSError) as error:
                raise UserError(f"{file}: is no LMDB, or damaged ({error}); fetch it again.") from None
            # LMDB maps the file into memory: a page that is not there would end the process without a word.
            size = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            if status.st_size < size:
                environment.close()
                raise UserError(f"{file}: cut off: it has {status.st_size} bytes, not {size}; fetch it again.")
            _OPENED[key] = environment
        return _OPENED[key]


def count_keys(file: Path) -> int:
    """Number of values in an LMDB."""
    return int(open_lmdb(file).stat()["entries"])


def list_keys(file: Path, label: int) -> Iterator[pa.Table]:
    """Rows of the schema KEYS, in the order of the keys, some at a time; no value is read.

    Raises:
        UserError: the LMDB is damaged, or a key is no UTF-8.
    """
    for keys in walk_keys(file, KEYS_AT_ONCE):
        try:
            names = keys.cast(pa.string())
        except pa.ArrowInvalid:
            raise UserError(
                f"{file}: has keys that are no text; it is damaged, or no LMDB of pictures as LSUN's are."
            ) from None
        count = len(names)
        yield pa.table([names, pa.array([label] * count, pa.int32()), pa.nulls(count, pa.string())], schema=KEYS)


class LmdbStore:
    """Pictures in an LMDB, found by their ids."""

    def __init__(self, file: Path) -> None:
        self._file = file
        open_lmdb(file)

    def load(self, entries: pa.Table) -> Iterator[bytes | BadPicture]:
        environment = open_lmdb(self._file)
        for name in entries["id"]:
            yield _value(environment, name.as_py().encode())


def _value(environment: lmdb.Environment, key: bytes) -> bytes | BadPicture:
    try:
        with environment.begin(buffers=True) as transaction:  # a damaged page spoils its whole transaction
            value = transaction.get(key)
            if value is None:
                return BadPicture("the key is no longer there")
            if len(value) > LARGEST_FILE:
                return BadPicture(f"the file has {len(value)} bytes, more than the limit of {LARGEST_FILE}")
            return bytes(value)
    except lmdb.Error as error:
        return BadPicture(f"cannot be read from the LMDB: {error}")
