"""A file's bytes to one 8-bit grey picture, or a sentence on why not.

Whatever the file holds (PNG, JPEG, TIFF, BMP or DICOM; grey or colour; 8 to 16 bits), what comes out is uint8 (h, w)
with bright bone and dark lung. 8-bit grey pixels are handed on untouched.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cxrfeat import _machine as machine
from cxrfeat.errors import ImageError, MissingExtraError

Grey = npt.NDArray[np.uint8]

_DEPTHS = (8, 10, 12, 14, 16)
_PNG = b"\x89PNG\r\n\x1a\n"
_GREY8_NOT_INTERLACED = bytes([8, 0, 0, 0, 0])  # IHDR: bits, colour type, compression, filter, interlace
_FEW_CORES = 4
_MAX_PIXELS = 1 << 26  # a header may lie; memory is only asked for what a radiograph can be


def read_grey(path: str | Path) -> Grey:
    """Read an image file.

    Parameters
    ----------
    path : str or Path
        PNG, JPEG, TIFF, BMP or DICOM.

    Returns
    -------
    ndarray of uint8, shape (h, w)

    Raises
    ------
    ImageError
        If the file is missing, unreadable, truncated or not an image.
    MissingExtraError
        If it is a DICOM file and pydicom is not installed.
    """
    return decode_grey(read_bytes(path))


def read_bytes(path: str | Path) -> bytes:
    """Read a file whole, turning the system's errors into an ImageError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}.") from error


def decode_grey(data: bytes) -> Grey:
    """Decode an image file's bytes; see `read_grey`."""
    if len(data) > 132 and data[128:132] == b"DICM":
        return _dicom(data)
    _check_complete(data)
    if (grey := _plain_png(data)) is not None:
        return grey
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {str(error).strip().splitlines()[-1]}") from error
    if pixels is None:
        raise ImageError("cannot be decoded: it is damaged, or no PNG, JPEG, TIFF, BMP or DICOM file.")
    return to_grey8(pixels)


def to_grey8(pixels: npt.NDArray[Any], bits: int | None = None) -> Grey:
    """Bring decoded pixels to 8-bit grey.

    Colour is weighed by ITU-R BT.601, transparency is dropped. Pixels of more than 8 bits are divided by the full range
    of `bits`; where it is not known, of the smallest of 8, 10, 12, 14 and 16 bits that holds the brightest pixel, since
    scanners write 12 bits into 16-bit files.

    Parameters
    ----------
    pixels : ndarray of uint8 or uint16, shape (h, w) or (h, w, channels)
        As decoded; colour in the order blue, green, red.
    bits : int, optional
        Bits a pixel that were in use, where they are known.
    """
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] < 3 else cv2.cvtColor(pixels[..., :3].copy(), cv2.COLOR_BGR2GRAY)
    if pixels.ndim != 2 or min(pixels.shape) < 8:
        raise ImageError(f"is no picture of at least 8 x 8 pixels: its shape is {pixels.shape}.")
    if pixels.dtype == np.uint8 and bits is None:
        return np.ascontiguousarray(pixels)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"has pixels of type {pixels.dtype}; 8 or 16 bits a pixel are understood.")
    if bits is None:
        brightest = int(pixels.max())
        bits = next(depth for depth in _DEPTHS if brightest < 1 << depth)
    if bits == 8 and pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    return np.clip(np.rint(pixels * (255.0 / ((1 << bits) - 1))), 0, 255).astype(np.uint8)


def _plain_png(data: bytes) -> Grey | None:
    """Decode the commonest file by the fastest decoder; None for whatever OpenCV is to decode, or to refuse.

    Lossless, so the pixels are OpenCV's (a test compares them), in about half the time. kornia-rs holds the
    interpreter's lock meanwhile, so where there are many cores OpenCV, which lets go of it, is taken.
    """
    header = data[:8] == _PNG and data[12:16] == b"IHDR" and data[24:29] == _GREY8_NOT_INTERLACED
    if not header or machine.cores() > _FEW_CORES or b"tRNS" in data[:1024]:
        return None
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if min(width, height) < 8 or width * height > _MAX_PIXELS:
        return None
    from kornia_rs.io import decode_image_png_u8

    try:
        return np.asarray(decode_image_png_u8(data, (height, width), "mono"))[..., 0]
    except Exception:  # the package raises nothing narrower; OpenCV then says what is wrong with the file
        return None


def _check_complete(data: bytes) -> None:
    # OpenCV decodes the first half of a cut-off file and says nothing; half a chest must not become an embedding.
    if not data:
        raise ImageError("is empty.")
    if data.startswith(_PNG) and b"IEND" not in data[-16:]:
        raise ImageError("is a truncated PNG: it has no end marker.")
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-1024:]:
        raise ImageError("is a truncated JPEG: it has no end marker.")


def _dicom(data: bytes) -> Grey:
    try:
        import pydicom
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError as error:
        raise MissingExtraError("Reading DICOM", "dicom") from error
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        stored = dataset.pixel_array
    except (AttributeError, NotImplementedError, RuntimeError, ValueError, KeyError, EOFError, TypeError) as error:
        # Only the kind of error is told: pydicom's message may quote an element, and with it a patient's name.
        raise ImageError(f"is a DICOM file whose pixels cannot be decoded ({type(error).__name__}).") from error
    if stored.ndim == 3 and int(getattr(dataset, "NumberOfFrames", 1) or 1) > 1:
        stored = stored[0]
    if stored.ndim == 3:
        return to_grey8(stored[..., ::-1])
    values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(np.float64)
    low, high = _dicom_range(dataset, stored, values)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        values, low, high = -values, -high, -low
    return np.clip(np.rint((values - low) * (255.0 / max(high - low, 1e-12))), 0, 255).astype(np.uint8)


def _dicom_range(dataset: Any, stored: npt.NDArray[Any], values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The values that become black and white: the window's, else the stored bits', else the picture's own."""
    windowed = "VOILUTSequence" in dataset or "WindowCenter" in dataset
    plain = "ModalityLUTSequence" not in dataset and float(dataset.get("RescaleSlope", 1) or 1) == 1
    if plain and not windowed and int(dataset.get("PixelRepresentation", 0)) == 0:
        bits = int(dataset.get("BitsStored", 8))
        return 0.0, float((1 << bits) - 1)
    return float(values.min()), float(values.max())
