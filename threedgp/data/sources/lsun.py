"""Source `lsun`: one category of LSUN's objects (Yu et al. 2015), an LMDB of encoded images, alone or in its zip.

Without `dataset.path` the zip is downloaded. The LMDB is extracted from the zip once; an unpacked one is used in place.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa

from threedgp.config import Config, MachineConfig
from threedgp.data.archives.listing import ListedSource, write_listing
from threedgp.data.archives.lmdb_files import DATA, LmdbStore, count_keys, list_keys
from threedgp.data.archives.references import Reference, check_unchanged, refer, start_over_if_changed
from threedgp.data.archives.zip_members import extract_member
from threedgp.data.shards import ShardFolder
from threedgp.data.source import Contents, Published, SourceKind
from threedgp.fetch.download import download as download_file
from threedgp.fetch.remote import Remote
from threedgp.runtime.addresses import expanded
from threedgp.runtime.atomic import write_json
from threedgp.runtime.errors import UserError

PUBLISHED = {
    # The publisher states neither the exact size nor a checksum.
    "horse": Published("http://dl.yf.io/lsun/objects/horse.zip", 2_000_340, num_bytes=69 * 10**9),
}
LMDB_SUFFIX = ".mdb"


def download(config: Config, path: Path | None, folder: Path) -> None:
    """List the images of the category in `folder`; download and unpack its LMDB there unless `path` holds it.

    Raises:
        UserError: it cannot be downloaded, or there is no LMDB at `path`.
    """
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
    """Open what `download` listed in `raw`.

    Raises:
        UserError: the LMDB has changed since then.
    """
    root = raw if shards.meta["inside"] else path if path.is_dir() else path.parent
    check_unchanged(root, shards.meta["files"])
    return ListedSource("lsun", shards, LmdbStore(root / shards.meta["files"][0]["name"]))


def instructions(subset: str) -> str:
    """How to get the images by hand."""
    return (
        f"download {PUBLISHED[subset].url} (about 69 GB) and set dataset.path to it or to the folder that holds its "
        f"{DATA}, or set dataset.path to null to have it downloaded"
    )


def contents(path: Path, subset: str) -> Contents:
    """Size of the LMDB or zip at `path`, and the number of images of an LMDB.

    Raises:
        UserError: there is none, or it is damaged.
    """
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


SOURCE = SourceKind(
    download=download,
    open=open_lsun,
    published=PUBLISHED,
    instructions=instructions,
    contents=contents,
    download_bytes=_download_bytes,
)
