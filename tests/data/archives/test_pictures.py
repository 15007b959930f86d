"""Images of all kinds come out as Pillow, asked kind by kind, says they should."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from threedgp.data.archives.pictures import BadPicture, decode_depth, decode_picture

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
def test_plain_images(kind: str) -> None:
    data = saved(RGB, kind)
    picture = decode_picture(data)
    np.testing.assert_array_equal(picture, np.asarray(reopened(data)))
    assert picture.dtype == np.uint8 and picture.shape == (40, 60, 3)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_other_modes(mode: str) -> None:
    data = saved(RGB.convert(mode), "JPEG" if mode in ("CMYK", "YCbCr") else "PNG")
    np.testing.assert_array_equal(decode_picture(data), np.asarray(reopened(data).convert("RGB")))


def test_cmyk_keeps_its_colors() -> None:
    picture = decode_picture(saved(RGB.convert("CMYK"), "JPEG", quality=95)).astype(int)
    assert np.abs(picture - np.asarray(RGB)).mean() < 4  # an inverted one is off by about 100


def ycck(rgb: np.ndarray) -> bytes:
    """A JPEG as Photoshop writes it: YCCK, all four values inverted, said so by the mark of Adobe.

    From the formulas: inverted inks without black are R, G, B; YCCK is the YCbCr of 255 minus those. Pillow writes four
    planes as they are but inverted, and says CMYK; the mark is then set to YCCK.
    """
    planes = np.asarray(Image.fromarray(255 - rgb).convert("YCbCr"))
    stored = np.dstack([planes, np.full(rgb.shape[:2], 255, np.uint8)])
    data = saved(Image.fromarray(255 - stored, "CMYK"), "JPEG", quality=100, subsampling=0)
    mark = data.index(b"Adobe") + 11
    assert data[mark] == 0
    return data[:mark] + b"\x02" + data[mark + 1 :]


def test_adobe_ycck_keeps_its_colors() -> None:
    rgb = np.asarray(RGB)
    with Image.open(io.BytesIO(ycck(rgb))) as image:
        assert image.mode == "CMYK" and image.info["adobe_transform"] == 2
    assert np.abs(decode_picture(ycck(rgb)).astype(int) - rgb).max() <= 6  # two rounded color transforms and a JPEG


def test_black_ink_darkens() -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, 8:, 3] = 255
    picture = decode_picture(saved(Image.fromarray(inks, "CMYK"), "JPEG", quality=95))
    assert picture[:, :6].min() > 245 and picture[:, 10:].max() < 10


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_over_white(mode: str) -> None:
    image = RGB.convert("RGBA")
    image.putalpha(Image.fromarray(RNG.integers(0, 256, (40, 60), dtype=np.uint8)))
    data = saved(image if mode == "RGBA" else image.convert("LA") if mode == "LA" else image.quantize(16), "PNG")
    layer = reopened(data).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    np.testing.assert_array_equal(decode_picture(data), np.asarray(expected))


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_one_transparent_color(mode: str) -> None:
    """PNG's chunk tRNS: pixels of exactly this color are clear, all others opaque."""
    if mode == "I;16":
        values, clear = np.full((4, 5), 2570, np.uint16), 770
        values[1, 2] = clear
        expected = np.full((4, 5, 3), 10)
    else:
        values, clear = np.full((4, 5, 3) if mode == "RGB" else (4, 5), 10, np.uint8), 3
        values[1, 2], expected = clear, np.full((4, 5, 3), 10)
    expected[1, 2] = 255
    data = saved(Image.fromarray(values), "PNG", transparency=(3, 3, 3) if mode == "RGB" else clear)
    np.testing.assert_array_equal(decode_picture(data), expected)


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


def test_sixteen_bit_color() -> None:
    values = RNG.integers(0, 65536, (9, 7, 3), dtype=np.uint16)
    data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    assert np.abs(decode_picture(data).astype(int) - values / 257).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_in_which_white_is_zero(order: str) -> None:
    """Written by hand: one strip of 16 bits, PhotometricInterpretation 0."""
    values = RNG.integers(0, 65536, (4, 6), dtype=np.uint16)
    tags = [(256, 6), (257, 4), (258, 16), (259, 1), (262, 0), (273, 200), (277, 1), (278, 4), (279, values.nbytes)]
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, value in tags:  # a short stands at the beginning of its four bytes
        header += struct.pack(f"{order}HHIHxx", tag, 3, 1, value)
    data = header.ljust(200, b"\0") + values.astype(f"{order}u2").tobytes()
    try:
        picture = decode_picture(data)
    except BadPicture as reason:
        assert order == ">" and "no known image format" in str(reason)  # as of Pillow 13
        return
    np.testing.assert_array_equal(picture, np.repeat(np.rint((65535 - values) / 257)[..., None], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(RGB, "JPEG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(reopened(data)))
    np.testing.assert_array_equal(decode_picture(data), expected)
    assert expected.shape[:2] == ((40, 60) if orientation < 5 else (60, 40))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_of_other_formats(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    picture = decode_picture(saved(RGB, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})))
    np.testing.assert_array_equal(picture, np.rot90(np.asarray(RGB), -1))


@pytest.mark.parametrize(
    "exif",
    [
        b"garbage",
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",  # says that 65535 entries follow
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0",  # orientation 9
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0",  # orientation "abc"
    ],
)
def test_broken_exif_costs_no_image(exif: bytes) -> None:
    np.testing.assert_array_equal(decode_picture(saved(RGB, "JPEG", exif=exif)), decode_picture(saved(RGB, "JPEG")))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_thin_images(kind: str, size: tuple[int, int]) -> None:
    picture = decode_picture(saved(Image.new("RGB", size, (200, 200, 200)), kind))
    assert picture.shape == (size[1], size[0], 3) and np.abs(picture.astype(int) - 200).max() <= 1


@pytest.mark.parametrize("settings", [{"progressive": True}, {"subsampling": 0}, {"subsampling": 2, "optimize": True}])
def test_kinds_of_jpeg(settings: dict[str, object]) -> None:
    data = saved(RGB, "JPEG", quality=95, **settings)
    np.testing.assert_array_equal(decode_picture(data), cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (12, 12), color) for color in ("red", "lime", "blue")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert reopened(data).n_frames == 3
    red = decode_picture(data)[5, 5]
    assert red[0] > 240 and max(red[1:]) < 15


def test_color_profile_is_ignored() -> None:
    plain, tagged = saved(RGB, "PNG"), saved(RGB, "PNG", icc_profile=b"not even a profile")
    np.testing.assert_array_equal(decode_picture(plain), decode_picture(tagged))


def bad_pictures() -> dict[str, tuple[bytes, str]]:
    jpeg, png = saved(RGB, "JPEG"), saved(RGB, "PNG")
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return {
        "empty": (b"", "empty"),
        "text": (b"this is no picture at all", "no known image format"),
        "html": (b"<html>404</html>", "no known image format"),
        "half a jpeg": (jpeg[: len(jpeg) // 2], "(?i)truncated"),
        "half a png": (png[: len(png) // 2], "truncated|broken"),
        "bit rot": (png[:200] + bytes([png[200] ^ 255]) + png[201:], "."),
        "gigapixel": (png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:], "limit"),
        "floating point": (cv2.imencode(".tiff", np.ones((4, 4), np.float32))[1].tobytes(), "floating-point"),
        "program for a printer": (saved(RGB, "EPS"), "no known image format"),  # Pillow would run Ghostscript
        "32 bits": (saved(Image.fromarray(np.full((4, 4), 2**20, np.int32)), "TIFF"), "16 bits"),
    }


@pytest.mark.parametrize("name", bad_pictures())
def test_bad_images_have_a_reason(name: str) -> None:
    data, reason = bad_pictures()[name]
    with pytest.raises(BadPicture, match=reason) as caught:
        decode_picture(data)
    assert "0x" not in str(caught.value)  # an address would make the rejects differ from run to run


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF"])
def test_cut_off_anywhere(kind: str) -> None:
    """Every beginning of a file is rejected with a reason, or lacks nothing of the image."""
    data = saved(RGB, kind)
    whole = decode_picture(data)
    for length in {*range(0, len(data), len(data) // 24), *range(len(data) - 12, len(data))}:
        try:
            picture = decode_picture(data[:length])
        except BadPicture as reason:
            assert str(reason)
        else:
            np.testing.assert_array_equal(picture, whole)
            assert length > 0.9 * len(data)


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
