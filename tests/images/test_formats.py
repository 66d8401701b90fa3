"""Every kind of picture that people have, against Pillow: colour, palette, transparency, CMYK, deep, interlaced."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from cxrfeat._images import decode

ROWS, COLUMNS = np.mgrid[:40, :56]
GREY = ((COLUMNS * 4 + ROWS * 2) % 256).astype(np.uint8)
RGB = np.dstack([GREY, 255 - GREY, GREY // 2 + 40])
ALPHA = np.where(COLUMNS < 28, 255, 60).astype(np.uint8)
MODES = {
    "L": Image.fromarray(GREY),
    "1": Image.fromarray(GREY > 128),
    "LA": Image.fromarray(np.dstack([GREY, ALPHA])),
    "RGB": Image.fromarray(RGB),
    "RGBA": Image.fromarray(np.dstack([RGB, ALPHA])),
    "P": Image.fromarray(RGB).quantize(64),
    "CMYK": Image.fromarray(RGB).convert("CMYK"),
}
KINDS = {
    "PNG": ("L", "1", "LA", "RGB", "RGBA", "P"),
    "JPEG": ("L", "RGB", "CMYK"),
    "TIFF": ("L", "1", "LA", "RGB", "RGBA", "P", "CMYK"),
    "BMP": ("L", "1", "RGB", "P"),
    "WEBP": ("L", "RGB", "RGBA"),
    "JPEG2000": ("L", "RGB", "RGBA"),
    "GIF": ("L", "P"),
}


def without_alpha(image):
    """Pillow's grey of the stored colour: what is transparent is no other colour."""
    return np.asarray(image if image.mode == "L" else image.convert("RGB").convert("L"))


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in KINDS.items() for mode in modes])
def test_grey_is_pillows_whatever_the_file(kind, mode):
    buffer = io.BytesIO()
    MODES[mode].save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = without_alpha(Image.open(buffer))
    found = decode.decode_grey(buffer.getvalue())
    assert np.abs(found.astype(int) - expected).max() <= (1 if kind == "JPEG" else 0)


@pytest.mark.parametrize("options", [{"progressive": True}, {"quality": 30, "subsampling": 2}])
def test_jpegs_of_every_making(options):
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG", **options)
    assert np.abs(decode.decode_grey(buffer.getvalue()).astype(int) - np.asarray(Image.open(buffer))).max() <= 1


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("deep", [False, True])
def test_tiffs_of_every_making(compression, white_is_zero, deep):
    buffer = io.BytesIO()
    pixels = GREY.astype(np.uint16) * 257 if deep else GREY
    Image.fromarray(pixels).save(buffer, "TIFF", compression=compression, tiffinfo={262: 0} if white_is_zero else {})
    expected = np.asarray(Image.open(buffer)).astype(int) // (257 if deep else 1)
    np.testing.assert_array_equal(decode.decode_grey(buffer.getvalue()), expected)


def interlaced(pixels):
    """A grey PNG in the seven passes of Adam7 (W3C PNG, 8.1)."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    h, w = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    lines = [b"\0" + row.astype(f">u{bits // 8}").tobytes() for y, x, dy, dx in passes for row in pixels[y::dy, x::dx]]
    header = struct.pack(">IIBBBBB", w, h, bits, 0, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("cores", [1, 64])
def test_an_interlaced_png_is_itself(cores, monkeypatch):
    monkeypatch.setattr(decode.machine, "cores", lambda: cores)
    data = interlaced(GREY)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), GREY)
    np.testing.assert_array_equal(decode.decode_grey(data), GREY)
    np.testing.assert_array_equal(decode.decode_grey(interlaced(GREY.astype(np.uint16) * 257)), GREY)


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_deep_colour_is_weighed_before_it_is_scaled(ending):
    deep = RGB.astype(np.uint16)[..., ::-1] * 257
    data = cv2.imencode(ending, deep)[1].tobytes()
    expected = np.rint(cv2.cvtColor(deep, cv2.COLOR_BGR2GRAY) / 257)
    np.testing.assert_array_equal(decode.decode_grey(data), expected)


def test_a_transparent_tiff_is_turned_like_any_other():
    buffer = io.BytesIO()
    MODES["RGBA"].save(buffer, "TIFF", tiffinfo={0x0112: 6})
    upright = decode.decode_grey(buffer.getvalue())
    expected = without_alpha(MODES["RGBA"].transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(upright, expected)


def test_the_first_page_of_several_is_taken():
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "TIFF", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    np.testing.assert_array_equal(decode.decode_grey(buffer.getvalue()), GREY)
