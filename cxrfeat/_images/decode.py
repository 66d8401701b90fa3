"""A file's bytes to one 8-bit grey picture, or a sentence on why not.

Whatever the file holds (PNG, JPEG, TIFF, BMP, WebP or DICOM; grey or colour; 8 to 16 bits), what comes out is uint8
(h, w) with bright bone and dark lung, turned as its EXIF orientation says. 8-bit grey pixels are handed on untouched.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cxrfeat import _machine as machine
from cxrfeat._images.choices import PERCENTILES, VOIS
from cxrfeat._remote import Place, Url, place
from cxrfeat.errors import ImageError, MissingExtraError, NotFoundError, RecipeError

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Film:
    """A decoded picture, uint8 (h, w), and what its file says of it; nothing of it names a person.

    `voi` says what decided black and white: the file's first `window` or its `table`, the `bits` of its values, their
    `range`, or their `percentile`; it is empty for pixels of 8 bits that are taken as they are. `facts` may have
    `spacing_mm` (of rows and of columns) and where it is from, `orientation`, `laterality` and `view`.
    """

    grey: Grey
    voi: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


MAX_PIXELS = 1 << 26
"""An image with more pixels is refused by its header; the environment variable CXRFEAT_MAX_PIXELS sets the limit."""

MAX_FILE_BYTES = 1 << 29
"""A larger file is refused before it is read; the environment variable CXRFEAT_MAX_FILE_BYTES sets the limit."""

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "PPM", "GIF", "JPEG2000")
"""What is decoded besides DICOM, as Pillow calls it: Pillow reads the header, OpenCV the pixels."""

FEW_CORES = 4
"""On more of them, threads wait for a decoder that holds the interpreter's lock (benchmarks/decoders.py)."""

ALONE = False
"""Whether this process decodes one image at a time, so that nothing waits for the lock: `helper` sets it in its own."""

HOT = 1e-4
"""Share of pixels that may be brighter than the bit depth that is assumed: defects and burnt-in marks are."""

_DEPTHS = (8, 10, 12, 14, 16)
_PNG = b"\x89PNG\r\n\x1a\n"
_GREY8_NOT_INTERLACED = bytes([8, 0, 0, 0, 0])  # IHDR: bits, colour type, compression, filter, interlace
_ORIENTATION = 0x0112
_TURN = {  # mirrored, then turned
    2: (True, None), 3: (False, cv2.ROTATE_180), 4: (True, cv2.ROTATE_180), 5: (True, cv2.ROTATE_90_COUNTERCLOCKWISE),
    6: (False, cv2.ROTATE_90_CLOCKWISE), 7: (True, cv2.ROTATE_90_CLOCKWISE), 8: (False, cv2.ROTATE_90_COUNTERCLOCKWISE),
}  # fmt: skip


def read_grey(path: str | Place, voi: str = "file") -> Grey:
    """Read an image file as uint8 (h, w), or raise an ImageError (for DICOM without pydicom, a MissingExtraError)."""
    return decode_film(read_bytes(path), voi).grey


def read_bytes(path: str | Place) -> bytes:
    """Read a regular file, or an object, whole, turning the system's errors into an ImageError."""
    if isinstance(path := place(path), Url):
        return received(ask(path))
    limit = _limit("CXRFEAT_MAX_FILE_BYTES", MAX_FILE_BYTES)
    try:
        found = os.stat(path)  # noqa: PTH116  (before opening: to open a FIFO would wait for its writer)
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("is not a regular file.")
        if found.st_size > limit:
            raise ImageError(f"has {found.st_size:,} bytes, more than the limit of {limit:,} (CXRFEAT_MAX_FILE_BYTES).")
        with Path(path).open("rb") as file:
            return file.read(found.st_size + 1)  # not the limit: Python would take all of it, and give most back
    except ImageError:
        raise
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise ImageError("cannot be read: its name is no file name.") from error


def ask(url: Url) -> Future[bytes]:
    """Start to read an image at an address, which `received` returns."""
    from cxrfeat._remote import transfer

    return transfer.ask(url, _limit("CXRFEAT_MAX_FILE_BYTES", MAX_FILE_BYTES) + 1)


def received(answer: Future[bytes]) -> bytes:
    """Wait for an image that was asked for; a StorageError if that is not the image's fault."""
    try:
        data = answer.result()
    except NotFoundError as error:
        raise ImageError("cannot be read: there is no such object.") from error
    except BaseException:
        answer.cancel()
        raise
    if len(data) > (limit := _limit("CXRFEAT_MAX_FILE_BYTES", MAX_FILE_BYTES)):
        raise ImageError(f"has more bytes than the limit of {limit:,} (CXRFEAT_MAX_FILE_BYTES).")
    return data


def decode_grey(data: bytes, voi: str = "file") -> Grey:
    """Decode an image file's bytes to uint8 (h, w). See `read_grey`."""
    return decode_film(data, voi).grey


def decode_film(data: bytes, voi: str = "file") -> Film:
    """Decode an image file's bytes by a rule of `choices.VOIS`; whatever a decoder raises is an ImageError."""
    if voi not in VOIS:
        raise RecipeError(f"voi {voi!r} is not one of {', '.join(VOIS)}.")
    try:
        if len(data) > 132 and data[128:132] == b"DICM":
            from cxrfeat._images import dicom

            return dicom.decode(data, voi)
        return _decode(data, voi)
    except (ImageError, MissingExtraError):
        raise
    except Exception as error:
        # Only the kind of error is reported: a decoder's message may quote the file, and with it a patient's name.
        raise ImageError(f"cannot be decoded ({type(error).__name__}).") from error


def check_header(data: bytes) -> Any:
    """Return Pillow's view of an image's header, once its size is found to be within the limit."""
    from PIL import Image, UnidentifiedImageError

    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":  # Pillow would ask for the memory of its pixels
        check_pixels(*_webp_size(data))
    try:
        header: Any = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError("cannot be decoded: it is damaged, or no PNG, JPEG, TIFF, BMP, WebP or DICOM file.") from error
    except Image.DecompressionBombError as error:
        raise ImageError("has more pixels than the limit (CXRFEAT_MAX_PIXELS).") from error
    check_pixels(*header.size)
    if header.format == "TIFF":
        check_pixels(header.tag_v2.get(322, 8), header.tag_v2.get(323, 8))  # its tiles
    return header


def check_pixels(width: int, height: int) -> None:
    """Refuse an image that is larger than the limit, or smaller than 8 x 8 pixels."""
    limit = _limit("CXRFEAT_MAX_PIXELS", MAX_PIXELS)
    if width * height > limit:
        raise ImageError(f"has {width} x {height} pixels, more than the limit of {limit:,} (CXRFEAT_MAX_PIXELS).")
    if min(width, height) < 8:
        raise ImageError(f"has {width} x {height} pixels; at least 8 x 8 are needed.")


def to_grey8(pixels: npt.NDArray[Any], bits: int | None = None, voi: str = "file") -> Film:
    """Bring decoded pixels to 8-bit grey.

    Colour is weighed by ITU-R BT.601, transparency is dropped. Pixels of more than 8 bits are divided by the full range
    of `bits`; where it is not known, of the smallest of 8, 10, 12, 14 and 16 bits that holds all but `HOT` of the
    pixels, since scanners write 12 bits into 16-bit files, or with `voi` `full` of the file's type. Colour is in the
    order blue, green, red.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"has pixels of type {pixels.dtype}; 8 or 16 bits a pixel can be read.")
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] < 3 else cv2.cvtColor(pixels[..., :3].copy(), cv2.COLOR_BGR2GRAY)
    if pixels.ndim != 2 or min(pixels.shape) < 8:
        raise ImageError(f"is no picture of at least 8 x 8 pixels: its shape is {pixels.shape}.")
    if voi == "percentile":
        return Film(scaled(pixels, *np.percentile(pixels, PERCENTILES)), voi)
    if pixels.dtype == np.uint8 and bits in (None, 8):
        return Film(np.ascontiguousarray(pixels))
    if bits is None and voi == "full":
        bits = 8 * pixels.dtype.itemsize
    if bits is None:
        allowed = max(1, int(HOT * pixels.size))
        bits = next(d for d in _DEPTHS if np.count_nonzero(pixels >> d) <= allowed or d == _DEPTHS[-1])
    levels = np.arange(1 << (8 * pixels.dtype.itemsize)) * (255.0 / ((1 << bits) - 1))
    return Film(np.clip(np.rint(levels), 0, 255).astype(np.uint8)[pixels], "bits")


def scaled(values: npt.NDArray[Any], low: float, high: float) -> Grey:
    """Values as grey, `low` and below black, `high` and above white."""
    share = (values.astype(np.float64) - low) * (255.0 / max(high - low, 1e-12))
    return np.clip(np.rint(share), 0, 255).astype(np.uint8)


def _decode(data: bytes, voi: str) -> Film:
    # OpenCV decodes the first half of a truncated file and says nothing; half a chest must not become an embedding.
    if not data:
        raise ImageError("is empty.")
    if data.startswith(_PNG) and b"IEND" not in data[-16:]:
        raise ImageError("is a truncated PNG: it has no end marker.")
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-1024:]:
        raise ImageError("is a truncated JPEG: it has no end marker.")
    if (grey := _plain_png(data)) is not None:
        return to_grey8(grey, voi=voi)
    header = check_header(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {str(error).strip().splitlines()[-1]}") from error
    if pixels is None:
        raise ImageError("cannot be decoded: it is damaged.")
    if header.format == "TIFF" and header.mode == "RGBA":  # here alone OpenCV darkens what is transparent
        from PIL import ImageOps

        pixels = np.asarray(ImageOps.exif_transpose(header).convert("RGB"))[..., ::-1]
    film = to_grey8(pixels, voi=voi)
    # OpenCV turns a TIFF by itself. A PNG is asked only where it has the chunk: Pillow would decode it to find out.
    if header.format == "TIFF" or (header.format == "PNG" and b"eXIf" not in data):
        return film
    mirrored, turn = _TURN.get(header.getexif().get(_ORIENTATION, 1), (False, None))
    grey = np.ascontiguousarray(film.grey[:, ::-1]) if mirrored else film.grey
    return replace(film, grey=grey if turn is None else np.asarray(cv2.rotate(grey, turn), np.uint8))


def _plain_png(data: bytes) -> Grey | None:
    """Decode the commonest file by the fastest decoder; None for whatever OpenCV is to decode, or to refuse.

    Lossless, so the pixels are OpenCV's (a test compares them), in less than half the time. kornia-rs holds the
    interpreter's lock meanwhile, so where the threads of many cores may wait for it OpenCV, which lets go, is taken.
    """
    header = data[:8] == _PNG and data[12:16] == b"IHDR" and data[24:29] == _GREY8_NOT_INTERLACED
    if not header or b"tRNS" in data[:1024] or b"eXIf" in data or not (ALONE or machine.cores() <= FEW_CORES):
        return None
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    check_pixels(width, height)
    from kornia_rs.io import decode_image_png_u8

    try:
        return np.asarray(decode_image_png_u8(data, (height, width), "mono"))[..., 0]
    except Exception:  # the package raises nothing narrower; OpenCV then says what is wrong with the file
        return None


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height in the header of a WebP file's first chunk (RFC 9649)."""

    def number(start: int, stop: int) -> int:
        return int.from_bytes(data[start:stop], "little")

    if data[12:16] == b"VP8X":
        return number(24, 27) + 1, number(27, 30) + 1
    if data[12:16] == b"VP8L":
        return (number(21, 25) & 0x3FFF) + 1, (number(21, 25) >> 14 & 0x3FFF) + 1
    return number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF


def _limit(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isascii() and value.isdigit() else default
