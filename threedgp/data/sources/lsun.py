"""Source `lsun`: one category of LSUN's objects, an LMDB of encoded pictures (WebP), alone or in its zip.

Without `dataset.path` the zip is fetched. The LMDB is taken out of the zip once; one that is there already is used
where it lies.
"""

from __future__ import annotations

import json
from pathlib import Path

from threedgp.config import MachineConfig
from threedgp.data.archives.listed import ListedSource
from threedgp.data.archives.listing import listing_writer
from threedgp.data.archives.lmdb_files import DATA, KEYS, LmdbStore, count_keys, list_keys
from threedgp.data.archives.references import Reference, check_unchanged, refer, start_over_if_changed
from threedgp.data.archives.zip_members import extract_member
from threedgp.data.shards import ShardFolder
from threedgp.fetch.download import fetch
from threedgp.fetch.table import LSUN
from threedgp.runtime.atomic import write_json
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

LMDB_SUFFIX = ".mdb"


def download(subset: str, path: Path | None, folder: Path, machine: MachineConfig) -> None:
    """List the pictures of category `subset` in `folder`; fetch and unpack its LMDB there unless `path` holds it.

    Raises:
        UserError: it cannot be had, or what is at `path` is none.
    """
    found = None if path is None else _find(path, subset)
    if found is not None and found.suffix == LMDB_SUFFIX:
        root = path if path.is_dir() else path.parent
        files, file = refer(root, [found.relative_to(root).as_posix()]), found
    else:
        files, file = [_unpack(found, subset, folder, machine)], folder / DATA
    total = count_keys(file)
    if total == 0:
        raise UserError(f"{file}: the LMDB is empty; {what_to_fetch(subset)}.")
    meta = {"source": "lsun", "class_names": [subset], "inside": file == folder / DATA, "files": files}
    writer = listing_writer(folder, KEYS, meta)
    with progress("download", total) as bar:
        for number, rows in enumerate(list_keys(file, label=0)):
            if not writer.done(number):
                writer.write(number, rows)
            bar.advance(rows.num_rows)
    writer.finish()


def open_lsun(shards: ShardFolder, path: Path | None, raw: Path) -> ListedSource:
    """Open what `download` listed in `raw`.

    Raises:
        UserError: the LMDB has changed since then.
    """
    root = raw if shards.meta["inside"] else path if path.is_dir() else path.parent
    check_unchanged(root, shards.meta["files"])
    return ListedSource("lsun", shards, LmdbStore(root / shards.meta["files"][0]["name"]))


def what_to_fetch(subset: str) -> str:
    """What a person should do who has none of it."""
    return (
        f"fetch {LSUN[subset].url} (about 69 GB) and set dataset.path to it or to the folder that holds its {DATA}, or "
        "set dataset.path to null to have it fetched"
    )


def _find(path: Path, subset: str) -> Path:
    """The LMDB or the zip at `path`."""
    if path.is_file():
        return path
    for name in (DATA, f"{subset}/{DATA}", f"{subset}.zip"):
        if (path / name).is_file():
            return path / name
    what = "holds neither an LMDB nor its zip" if path.is_dir() else "does not exist"
    raise UserError(f"dataset.path: {path} {what}; {what_to_fetch(subset)}.")


def _unpack(archive: Path | None, subset: str, folder: Path, machine: MachineConfig) -> Reference:
    """Take the LMDB out of `archive`, or of the zip that is fetched first, into `folder`, once."""
    source = [] if archive is None else refer(archive.parent, [archive.name])
    record = folder.with_name("unpacked.json")
    start_over_if_changed(folder.with_name("zip.json"), source, folder / DATA, record)
    if not record.is_file():
        fetched = []
        if archive is None:
            place, mirror = folder.with_name("fetched"), machine.mirror
            fetched = fetch([LSUN[subset]], place, title="download", connections=machine.connections, mirror=mirror)
        crc = extract_member(archive or fetched[0], DATA, folder / DATA)
        write_json(record, {"name": DATA, "size": (folder / DATA).stat().st_size, "checksum": f"crc32:{crc:08x}"})
        for file in fetched:  # it would take as much space again
            file.unlink()
    return json.loads(record.read_text())
