"""Pictures of all kinds come out as Pillow, asked kind by kind, says they should."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from threedgp.data.sources.pictures import BadPicture, decode_depth, decode_picture

RNG = np.random.default_rng(0)
RGB = Image.fromarray(cv2.resize(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8), (60, 40)))  # smooth enough for JPEG


def saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def reopened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "JPEG", "WEBP"])
def test_plain_pictures(kind: str) -> None:
    data = saved(RGB, kind)
    picture = decode_picture(data)
    np.testing.assert_array_equal(picture, np.asarray(reopened(data)))
    assert picture.dtype == np.uint8 and picture.shape == (40, 60, 3)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_other_modes(mode: str) -> None:
    data = saved(RGB.convert(mode), "JPEG" if mode in ("CMYK", "YCbCr") else "PNG")
    np.testing.assert_array_equal(decode_picture(data), np.asarray(reopened(data).convert("RGB")))


def test_cmyk_keeps_its_colours() -> None:
    picture = decode_picture(saved(RGB.convert("CMYK"), "JPEG", quality=95)).astype(int)
    assert np.abs(picture - np.asarray(RGB)).mean() < 4  # an inverted one is off by about 100


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_over_white(mode: str) -> None:
    image = RGB.convert("RGBA")
    image.putalpha(Image.fromarray(RNG.integers(0, 256, (40, 60), dtype=np.uint8)))
    data = saved(image if mode == "RGBA" else image.convert("LA") if mode == "LA" else image.quantize(16), "PNG")
    layer = reopened(data).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    np.testing.assert_array_equal(decode_picture(data), np.asarray(expected))


def test_transparent_palette_entry() -> None:
    image = RGB.quantize(8)
    data = saved(image, "GIF", transparency=image.getpixel((0, 0)))
    assert (decode_picture(data)[0, 0] == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled(kind: str) -> None:
    values = RNG.integers(0, 65536, (9, 7), dtype=np.uint16)
    ppm = b"P5 7 9 65535\n" + values.byteswap().tobytes()
    data = ppm if kind == "PPM" else saved(Image.fromarray(values), kind)
    np.testing.assert_array_equal(decode_picture(data), np.repeat(np.rint(values / 257)[..., None], 3, axis=2))


def test_sixteen_bit_colour() -> None:
    values = RNG.integers(0, 65536, (9, 7, 3), dtype=np.uint16)
    data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    assert np.abs(decode_picture(data).astype(int) - values / 257).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(RGB, "JPEG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(reopened(data)))
    np.testing.assert_array_equal(decode_picture(data), expected)
    assert expected.shape[:2] == ((40, 60) if orientation < 5 else (60, 40))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (12, 12), color) for color in ("red", "lime", "blue")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert reopened(data).n_frames == 3
    red = decode_picture(data)[5, 5]
    assert red[0] > 240 and max(red[1:]) < 15


def test_colour_profile_is_ignored() -> None:
    plain, tagged = saved(RGB, "PNG"), saved(RGB, "PNG", icc_profile=b"not even a profile")
    np.testing.assert_array_equal(decode_picture(plain), decode_picture(tagged))


def bad_pictures() -> dict[str, tuple[bytes, str]]:
    jpeg, png = saved(RGB, "JPEG"), saved(RGB, "PNG")
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return {
        "empty": (b"", "empty"),
        "text": (b"this is no picture at all", "no known picture format"),
        "html": (b"<html>404</html>", "no known picture format"),
        "half a jpeg": (jpeg[: len(jpeg) // 2], "(?i)truncated"),
        "half a png": (png[: len(png) // 2], "truncated|broken"),
        "bit rot": (png[:200] + bytes([png[200] ^ 255]) + png[201:], "."),
        "gigapixel": (png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:], "limit"),
        "floating point": (cv2.imencode(".tiff", np.ones((4, 4), np.float32))[1].tobytes(), "floating-point"),
        "32 bits": (saved(Image.fromarray(np.full((4, 4), 2**20, np.int32)), "TIFF"), "16 bits"),
    }


@pytest.mark.parametrize("name", bad_pictures())
def test_bad_pictures_have_a_reason(name: str) -> None:
    data, reason = bad_pictures()[name]
    with pytest.raises(BadPicture, match=reason) as caught:
        decode_picture(data)
    assert "0x" not in str(caught.value)  # an address would make the rejects differ from run to run


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(RGB, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 40)
    decode_picture(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 40 - 1)  # Pillow itself only warns here
    with pytest.raises(BadPicture, match="60x40 pixels are more than the limit"):
        decode_picture(data)


def test_depth_maps() -> None:
    values = RNG.integers(0, 65536, (9, 7), dtype=np.uint16)
    depth = decode_depth(saved(Image.fromarray(values), "PNG"))
    np.testing.assert_allclose(depth * 65535, values, atol=0.01)  # float32 holds 24 bits
    assert depth.dtype == np.float32
    with pytest.raises(BadPicture, match="pixels of kind RGB"):
        decode_depth(saved(RGB, "PNG"))
    with pytest.raises(BadPicture, match="pixels of kind L"):
        decode_depth(saved(RGB.convert("L"), "PNG"))
