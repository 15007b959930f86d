"""Stage `prepare` against a plain loop over Pillow: open, center crop, Lanczos to 256, save PNG.

    python benchmarks/data_prepare.py

Both read the same textured JPEGs of typical sizes, alternately, in one thread, and write to the same disk. Measures CPU
time (all threads) and wall-clock time per image. The outputs are compared pixel by pixel. Appends a row to
benchmarks/results/data.jsonl.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from measuring import RESULTS, append_row
from PIL import Image
from workloads import textured

from threedgp.config import DatasetConfig, PrepareConfig
from threedgp.data.images import Encoding, decode_image
from threedgp.data.prepare import prepare_set
from threedgp.data.shards import ShardFolder
from threedgp.data.source import open_source
from threedgp.data.sources import folder as folder_source

SIDE = 256
SIZES = ((500, 375), (375, 500), (640, 480), (1024, 683), (1024, 1024), (2048, 1536))
"""Width and height: typical of ImageNet and of SDIP, and large photographs."""


def write_jpegs(folder: Path, size: tuple[int, int], count: int) -> None:
    """`count` files as a camera writes them: quality 92, chroma at half the resolution."""
    folder.mkdir(parents=True)
    for number in range(count):
        picture = Image.fromarray(textured(size[1], size[0], number))
        picture.save(folder / f"{number:03d}.jpg", quality=92, subsampling=2)


def plain(pictures: Path, target: Path) -> None:
    """A plain loop over Pillow."""
    target.mkdir()
    for file in sorted(pictures.glob("*.jpg")):
        image = Image.open(file).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        image.save(target / f"{file.stem}.png")


def ours(pictures: Path, target: Path, encoding: Encoding) -> None:
    """Stage `prepare` without its command."""
    config = DatasetConfig(name="bench", source="folder", path=str(pictures), resolution=SIDE)
    source = open_source(config, pictures.with_name("raw"))
    prepare_set(source, target / "prepared", PrepareConfig(encoding=encoding), SIDE, 1)


def spent(work: Callable[[], None], count: int) -> tuple[float, float]:
    """Milliseconds per image: CPU time and wall-clock time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.process_time() - cpu) / count, 1e3 * (time.perf_counter() - wall) / count


def differences(found: Path, expected: Path) -> tuple[float, int]:
    """Lowest PSNR of an image in dB (99 = equal), and the largest difference of a pixel."""
    rows = ShardFolder(found).read(0).to_pylist()
    worst, largest = 99.0, 0
    for row in rows:
        image = decode_image(row["image"]["bytes"]).astype(int)
        plain_image = np.asarray(Image.open(expected / f"{Path(row['id']).stem}.png")).astype(int)
        error = np.mean((image - plain_image) ** 2)
        worst = min(worst, 10 * np.log10(255**2 / error) if error else 99.0)
        largest = max(largest, int(np.abs(image - plain_image).max()))
    return worst, largest


def measure(size: tuple[int, int], count: int, turns: int, encodings: list[Encoding]) -> dict[str, dict[str, float]]:
    """Figures of one size: the plain loop, and each encoding."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_jpegs(place / "pictures", size, count)
        folder_source.download(place / "pictures", place / "raw")
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ("plain", *encodings)}
        found: dict[str, dict[str, float]] = {}
        for turn in range(turns):
            times["plain"].append(spent(lambda turn=turn: plain(place / "pictures", place / f"plain{turn}"), count))
            for name in encodings:
                target = place / f"{name}{turn}"
                work = lambda name=name, target=target: ours(place / "pictures", target, name)  # noqa: E731
                times[name].append(spent(work, count))
        for name, turns_of_it in times.items():
            found[name] = {"cpu_ms": min(t[0] for t in turns_of_it), "wall_ms": min(t[1] for t in turns_of_it)}
        for name in encodings:
            found[name]["worst_dB"], found[name]["largest"] = differences(place / f"{name}0/prepared", place / "plain0")
            found[name]["cpu_ratio"] = found["plain"]["cpu_ms"] / found[name]["cpu_ms"]
            found[name]["wall_ratio"] = found["plain"]["wall_ms"] / found[name]["wall_ms"]
    return found


def main() -> None:
    """Read the options, measure, print and append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=32, help="images of each size")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--encoding", nargs="+", default=["webp", "png", "jpeg"])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sizes = {f"{w}x{h}": measure((w, h), options.count, options.turns, options.encoding) for w, h in SIZES}
    print("| size | plain ms | " + " | ".join(f"{e}: ms | speedup | dB | largest" for e in options.encoding) + " |")
    print("|---" * (2 + 4 * len(options.encoding)) + "|")
    for size, found in sizes.items():
        cells = [f"{found['plain']['cpu_ms']:.1f}"]
        for e in options.encoding:
            cells += [f"{found[e]['cpu_ms']:.1f}", f"{found[e]['cpu_ratio']:.1f}"]
            cells += [f"{found[e]['worst_dB']:.0f}", f"{found[e]['largest']:.0f}"]
        print(f"| {size} | " + " | ".join(cells) + " |")
    append_row(
        RESULTS / "data.jsonl", {"benchmark": "prepare", "count": options.count, "turns": options.turns, "sizes": sizes}
    )


if __name__ == "__main__":
    main()
