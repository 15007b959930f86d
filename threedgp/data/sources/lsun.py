"""Source `lsun`: one category of LSUN's objects (Yu et al. 2015), an LMDB of encoded images, alone or in its zip.

Without `dataset.path` the zip is downloaded. The LMDB is extracted from the zip once; an unpacked one is used in place.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path, PurePosixPath

import lmdb
import pyarrow as pa

from threedgp.config import Config, MachineConfig
from threedgp.data.archives.files import DAMAGE
from threedgp.data.archives.listing import ListedSource, write_listing
from threedgp.data.archives.pictures import BadPicture, check_size
from threedgp.data.archives.references import Reference, check_unchanged, refer, start_over_if_changed
from threedgp.data.shards import ShardFolder
from threedgp.data.source import Contents, Published, SourceKind
from threedgp.fetch.download import download as download_file
from threedgp.fetch.remote import Remote
from threedgp.runtime.addresses import expanded
from threedgp.runtime.atomic import atomic_path, require_free, write_json
from threedgp.runtime.errors import UserError
from threedgp.runtime.parallel import ProcessPool
from threedgp.runtime.progress import progress

PUBLISHED = {
    # The publisher states neither the exact size nor a checksum.
    "horse": Published("http://dl.yf.io/lsun/objects/horse.zip", 2_000_340, num_bytes=69 * 10**9),
}
LMDB_SUFFIX = ".mdb"
DATA = "data.mdb"
BLOCK = 16 * 2**20
ENCRYPTED = 1
"""Bit in the flags of a member of a zip."""


def download(config: Config, path: Path | None, folder: Path) -> None:
    """List the images of the category in `folder`; download and unpack its LMDB there unless `path` holds it."""
    subset, machine = config.dataset.subset, config.machine
    found = None if path is None else _find(path, subset)
    if found is not None and found.suffix == LMDB_SUFFIX:
        root = path if path.is_dir() else path.parent
        files, file = refer(root, [found.relative_to(root).as_posix()]), found
    else:
        files, file = [_unpack(found, subset, folder, machine)], folder / DATA
    keys = list_keys(file)
    if len(keys) == 0:
        raise UserError(f"{file}: the LMDB is empty; {instructions(subset)}.")
    labels, problems = pa.repeat(pa.scalar(0, pa.int32()), len(keys)), pa.nulls(len(keys), pa.string())
    meta = {"source": "lsun", "class_names": [subset], "inside": file == folder / DATA, "files": files}
    write_listing(folder, pa.table({"id": keys, "label": labels, "problem": problems}), meta)


def open_lsun(shards: ShardFolder, path: Path | None, raw: Path) -> ListedSource:
    """Open what `download` listed in `raw`."""
    root = raw if shards.meta["inside"] else path if path.is_dir() else path.parent
    check_unchanged(root, shards.meta["files"])
    return ListedSource("lsun", shards, LmdbStore(root / shards.meta["files"][0]["name"]))


def instructions(subset: str) -> str:
    """How to get the images by hand, and what to set `dataset.path` to."""
    return (
        f"download {PUBLISHED[subset].url} (about 69 GB) and set dataset.path to it or to the folder that holds its "
        f"{DATA}, or set dataset.path to null to have it downloaded"
    )


def contents(path: Path, subset: str) -> Contents:
    """Size of the LMDB or zip at `path`, and the number of images of an LMDB."""
    found = _find(path, subset)
    return Contents(found.stat().st_size, count_keys(found) if found.suffix == LMDB_SUFFIX else None)


def _find(path: Path, subset: str) -> Path:
    """The LMDB or the zip at `path`."""
    if path.is_file():
        return path
    for name in (DATA, f"{subset}/{DATA}", f"{subset}.zip"):
        if (path / name).is_file():
            return path / name
    problem = "holds neither an LMDB nor its zip" if path.is_dir() else "does not exist"
    raise UserError(f"dataset.path: {path} {problem}; {instructions(subset)}.")


def _unpack(archive: Path | None, subset: str, folder: Path, machine: MachineConfig) -> Reference:
    """Extract the LMDB from `archive`, or from the zip that is downloaded first, into `folder`, once."""
    source = [] if archive is None else refer(archive.parent, [archive.name])
    record, downloads = folder.with_name("unpacked.json"), folder.with_name("downloads")
    start_over_if_changed(folder.with_name("zip.json"), source, folder / DATA, record)
    if not (record.is_file() and (folder / DATA).is_file()):
        if archive is None:
            file = Remote(f"{subset}.zip", PUBLISHED[subset].url)
            archive = download_file(file, downloads, title="download", mirror=machine.mirror)
        crc = extract_member(archive, DATA, folder / DATA)
        write_json(record, {"name": DATA, "size": (folder / DATA).stat().st_size, "checksum": f"crc32:{crc:08x}"})
        shutil.rmtree(downloads, ignore_errors=True)  # the zip takes as much space again
    return json.loads(record.read_text())


def _download_bytes(config: Config) -> tuple[int, int]:
    path, size = config.dataset.path, PUBLISHED["horse"].num_bytes
    if path is None:
        return size, size  # the zip and the LMDB from it
    try:
        found = _find(expanded(path), config.dataset.subset)
    except UserError:  # reported where `dataset.path` is checked
        return 0, 0
    return (0 if found.suffix == LMDB_SUFFIX else size), 0


# ---- LMDB: names and encoded images; read-only, without locks, from several threads and processes --------------------

# One kind of damage is not detected: LMDB does not compare the size that a leaf page claims for a value with the end of
# the file, so loading such a value may crash the process.

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
        with ProcessPool(1) as pool:
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


# ---- The zip ---------------------------------------------------------------------------------------------------------


def extract_member(archive: Path, name: str, target: Path) -> int:
    """Write the only member of `archive` whose file name is `name` to `target`; its folder is ignored.

    Returns:
        its CRC-32, which has been verified.

    Raises:
        UserError: the archive is damaged, has no such member or several, or there is too little disk space.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            member = _only_member(opened, archive, name)
            require_free(target.parent, member.file_size)
            blocks = -(-member.file_size // BLOCK)
            with (
                atomic_path(target) as temporary,
                opened.open(member) as source,
                temporary.open("wb") as sink,
                progress(f"download: unpacking {name}", blocks * BLOCK >> 20, "MiB") as bar,
            ):
                while block := source.read(BLOCK):  # zipfile checks the size and the CRC
                    sink.write(block)
                    bar.advance(BLOCK >> 20)
            return member.CRC
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a position before the file
            raise
        raise UserError(f"{archive}: is not a zip file, or is damaged ({error}); download it again.") from None


def _only_member(opened: zipfile.ZipFile, archive: Path, name: str) -> zipfile.ZipInfo:
    found = [member for member in opened.infolist() if PurePosixPath(member.filename).name == name]
    if len(found) != 1:
        raise UserError(f"{archive}: holds {len(found)} files called {name}, not one; download it again.")
    if stat.S_ISLNK(found[0].external_attr >> 16) or found[0].flag_bits & ENCRYPTED:
        raise UserError(f"{archive}: {found[0].filename} is a link or is encrypted; download it again.")
    return found[0]


SOURCE = SourceKind(
    download=download,
    open=open_lsun,
    published=PUBLISHED,
    instructions=instructions,
    contents=contents,
    download_bytes=_download_bytes,
)
