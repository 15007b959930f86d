"""Size and speed of encodings of 256x256 images and depth maps in shards.

    python benchmarks/data_formats.py --photographs ../shared/real_rgbd

Measured on photographs with estimated depth and on images of the procedural world with true depth. Prints the tables of
docs/data_formats.md and appends a row to benchmarks/results/data.jsonl. Times are CPU times of one thread, the best of
several passes over all images.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
from measuring import RESULTS, append_row
from numpy.typing import NDArray
from PIL import Image

from threedgp.config import DownloadConfig
from threedgp.data.archives.pictures import decode_depth, decode_picture
from threedgp.data.images import JPEG, decode_image, depth_from_bytes, depth_to_bytes, encode_image
from threedgp.data.prepare import square, square_depth
from threedgp.data.shards import ShardFolder
from threedgp.data.source import RawPicture
from threedgp.data.sources.procedural import ProceduralSource, render_shards
from threedgp.depth.estimation import encode

SIDE = 256
Array = NDArray[Any]


class Codec(NamedTuple):
    """A way to store an array."""

    encode: Callable[[Array], bytes]
    decode: Callable[[bytes], Array]


def by_opencv(suffix: str, settings: list[int]) -> Codec:
    return Codec(
        lambda rgb: cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), settings)[1].tobytes(), decode_image
    )


def by_pillow(kind: str, **settings: Any) -> Codec:
    def save(rgb: Array) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(rgb).save(stream, kind, **settings)
        return stream.getvalue()

    return Codec(save, decode_image)


def image_codecs() -> dict[str, Codec]:
    level, filters = cv2.IMWRITE_PNG_COMPRESSION, cv2.IMWRITE_PNG_FILTER
    codecs = {f"PNG, Pillow, level {n}": by_pillow("PNG", compress_level=n) for n in (1, 3, 6)}
    codecs |= {f"PNG, OpenCV, level {n}, all filters": by_opencv(".png", [level, n]) for n in (1, 3, 6)}
    up = cv2.IMWRITE_PNG_FILTER_UP
    codecs |= {f"PNG, OpenCV, level {n}, filter up": by_opencv(".png", [level, n, filters, up]) for n in (1, 3, 6)}
    codecs |= {
        f"WebP lossless, Pillow, method {m}": by_pillow("WEBP", lossless=True, method=m, quality=0) for m in (0, 1)
    }
    codecs["WebP lossless, OpenCV"] = by_opencv(".webp", [cv2.IMWRITE_WEBP_QUALITY, 101])
    codecs["JPEG 95, no chroma subsampling"] = by_opencv(".jpg", JPEG)
    for encoding in ("webp", "png"):
        codecs[f"`prepare.encoding: {encoding}`"] = Codec(partial(encode_image, encoding=encoding), decode_image)
    return codecs


def row_differences(depth: Array) -> Array:
    return np.diff(depth, axis=0, prepend=np.uint16(0)) + np.uint16(128)


def from_row_differences(differences: Array) -> Array:
    return np.cumsum(differences - np.uint16(128), axis=0, dtype=np.uint16)


def byte_planes(values: Array) -> bytes:
    """Low bytes, then high bytes."""
    return np.stack([values & 255, values >> 8]).astype(np.uint8).tobytes()


def from_byte_planes(data: bytes) -> Array:
    low, high = np.frombuffer(data, np.uint8).reshape(2, SIDE, SIDE)
    return high.astype(np.uint16) << 8 | low


def zstandard(level: int, pack: Callable[[Array], bytes], unpack: Callable[[bytes], Array]) -> Codec:
    codec = pa.Codec("zstd", level)
    return Codec(
        lambda depth: codec.compress(pack(depth), asbytes=True),
        lambda data: unpack(codec.decompress(data, 2 * SIDE**2)),
    )


def depth_codecs() -> dict[str, Codec]:
    def png(level: int) -> Codec:
        return Codec(
            lambda depth: cv2.imencode(".png", depth, [cv2.IMWRITE_PNG_COMPRESSION, level])[1].tobytes(),
            lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED),
        )

    codecs = {f"16-bit PNG, level {level}": png(level) for level in (1, 3, 6)}
    packings = {
        "raw": (lambda depth: depth.tobytes(), lambda data: np.frombuffer(data, np.uint16).reshape(SIDE, SIDE)),
        "byte planes": (byte_planes, from_byte_planes),
        "row differences, byte planes": (
            lambda depth: byte_planes(row_differences(depth)),
            lambda data: from_row_differences(from_byte_planes(data)),
        ),
    }
    for (name, packing), level in product(packings.items(), (1, 3, 9)):
        codecs[f"{name}, Zstandard {level}"] = zstandard(level, *packing)
    codecs["differences along both axes, byte planes, Zstandard 1 (in use)"] = Codec(
        depth_to_bytes, lambda data: depth_from_bytes(data, SIDE)
    )
    return codecs


def best_ms(work: Callable[[Any], object], items: list[Any], turns: int) -> float:
    """CPU time of `work` for one item in ms, the best pass."""
    times = []
    for _ in range(turns):
        start = time.thread_time()
        for item in items:
            work(item)
        times.append((time.thread_time() - start) / len(items))
    return 1e3 * min(times)


def measure(codecs: dict[str, Codec], arrays: list[Array], turns: int) -> dict[str, dict[str, float]]:
    figures = {}
    for name, codec in codecs.items():
        encoded = [codec.encode(array) for array in arrays]
        if "JPEG" not in name:
            assert all(np.array_equal(codec.decode(data), array) for data, array in zip(encoded, arrays, strict=True))
        figures[name] = {
            "kB": float(np.mean([len(data) for data in encoded]) / 1e3),
            "encode_ms": best_ms(codec.encode, arrays, max(2, turns // 4)),
            "decode_ms": best_ms(codec.decode, encoded, turns),
        }
    return figures


def photographs(folder: Path, count: int) -> tuple[list[Array], list[Array]]:
    """Images and 16-bit depth maps `[256, 256]` from `<id>.jpg` and `<id>_depth.png`."""
    images, depths = [], []
    for file in sorted(folder.glob("*.jpg"))[:count]:
        images.append(square(RawPicture("", 0, decode_picture(file.read_bytes())), SIDE)[0])
        depth = decode_depth(file.with_name(f"{file.stem}_depth.png").read_bytes())
        depths.append(encode(square_depth(depth, SIDE), SIDE).levels)
    return images, depths


def procedural(place: Path, count: int) -> tuple[list[Array], list[Array]]:
    """Images and 16-bit depth maps `[256, 256]` of the procedural world, rendered into `place`."""
    render_shards(DownloadConfig(count=count, resolution=SIDE), place, 1)
    source = ProceduralSource(ShardFolder(place))
    read = list(source.read(source.entries()))
    return [picture.rgb for picture in read], [encode(picture.depth, SIDE).levels for picture in read]


def print_table(title: str, figures: dict[str, dict[str, dict[str, float]]]) -> None:
    """A Markdown table with a line per codec and three columns per set."""
    sets = list(figures)
    print(f"\n| {title} | " + " | ".join(f"{name}: kB | encode ms | decode ms" for name in sets) + " |")
    print("|---" * (1 + 3 * len(sets)) + "|")
    for codec in figures[sets[0]]:
        cells = [
            f"{figures[s][codec][key]:.{n}f}"
            for s in sets
            for key, n in (("kB", 1), ("encode_ms", 2), ("decode_ms", 2))
        ]
        print(f"| {codec} | " + " | ".join(cells) + " |")


def main() -> None:
    """Read the options, measure, print and append."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of <id>.jpg with <id>_depth.png")
    parser.add_argument("--count", type=int, default=24, help="images of each set")
    parser.add_argument("--turns", type=int, default=12)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as place:
        sets = {
            "photographs": photographs(options.photographs, options.count),
            "procedural": procedural(Path(place) / "raw", options.count),
        }
    images = {name: measure(image_codecs(), arrays, options.turns) for name, (arrays, _) in sets.items()}
    depths = {name: measure(depth_codecs(), arrays, options.turns) for name, (_, arrays) in sets.items()}
    print_table("images", images)
    print_table("depth", depths)
    append_row(
        RESULTS / "data.jsonl",
        {"benchmark": "formats", "side": SIDE, "count": options.count, "pictures": images, "depth": depths},
    )


if __name__ == "__main__":
    main()
