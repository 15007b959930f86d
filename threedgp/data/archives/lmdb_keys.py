"""The keys of an LMDB, listed in a child process, because LMDB aborts the process on some damaged pages.

A page of zeros, left by a gap in a download, is such a page. Run with a file and a number of keys per batch, this
module writes Arrow batches of keys to standard output. It imports little, so that it starts quickly.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import lmdb
import pyarrow as pa

from threedgp.runtime.errors import UserError

SCHEMA = pa.schema([("key", pa.binary())])
DAMAGED = 3
"""Exit code if LMDB detects the damage itself; standard error then describes it."""
CRASHES = {signal.SIGABRT, signal.SIGBUS, signal.SIGSEGV, signal.SIGFPE}


def open_unlocked(file: Path) -> lmdb.Environment:
    """Open the file of an LMDB, read-only.

    Raises:
        lmdb.Error, OSError: it is not an LMDB.
    """
    return lmdb.open(str(file), subdir=False, readonly=True, lock=False, readahead=False, create=False)


def walk_keys(file: Path, keys_at_once: int) -> Iterator[pa.Array]:
    """Yield the keys of an LMDB in their order, `keys_at_once` at a time, once all have been listed.

    Raises:
        UserError: it is damaged.
    """
    command = [sys.executable, "-m", __name__, str(file), str(keys_at_once)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode == DAMAGED or -done.returncode in CRASHES:
        message = done.stderr.decode(errors="replace").strip().splitlines() or [f"signal {-done.returncode}"]
        raise UserError(f"{file}: is damaged ({message[0]}); download it again.")
    done.check_returncode()
    with pa.ipc.open_stream(done.stdout) as batches:
        for batch in batches:
            yield batch["key"]


def _write_keys(file: Path, keys_at_once: int) -> None:
    with (
        open_unlocked(file) as environment,
        environment.begin() as transaction,
        transaction.cursor() as cursor,
        pa.ipc.new_stream(sys.stdout.buffer, SCHEMA) as batches,
    ):
        count, left = 0, environment.stat()["entries"]
        keys = islice(cursor.iternext(keys=True, values=False), left + 1)  # damaged pages may form a cycle
        while some := list(islice(keys, keys_at_once)):
            batches.write_batch(pa.record_batch([pa.array(some, pa.binary())], SCHEMA))
            count += len(some)
        if count != left:
            raise lmdb.CorruptedError(f"it lists {'more' if count > left else count} keys, not {left}")


if __name__ == "__main__":
    try:
        _write_keys(Path(sys.argv[1]), int(sys.argv[2]))
    except lmdb.Error as error:
        print(error, file=sys.stderr)
        sys.exit(DAMAGED)
