"""DICOM: the frame of a file as 8-bit grey, black and white as it asks, and what it says that names nobody."""

from __future__ import annotations

import io
import logging
import re
import warnings
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._images import decode as _decode
from cxrfeat._images.choices import PERCENTILES
from cxrfeat._images.decode import Film, scaled
from cxrfeat.errors import ImageError, MissingExtraError

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NO_FILM = ("Segmentation", "RT ", "Parametric Map")
"""In the names of kinds of objects whose pixels are no picture."""


def package() -> Any:
    """Import pydicom, and keep its warnings from the terminal: they quote values, a patient's name among them."""
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtraError("Reading DICOM", "dicom") from error
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="pydicom")
    return pydicom


def decode(data: bytes, voi: str = "file") -> Film:
    """Decode a DICOM file's bytes by a rule of `choices.VOIS`.

    By `file`, the first table or else window of the file decides black and white; without one, the bits stored; for
    signed, floating-point and rescaled pixels without one, the picture's own range. MONOCHROME1, or an inverse
    presentation table, is inverted after that; a colour palette is applied.
    """
    dataset = package().dcmread(io.BytesIO(_checked(data)))
    kind = _checked_kind(dataset)
    try:
        _check_size(dataset)
        return _decoded(dataset, voi)
    except (ImageError, MissingExtraError):
        raise
    except Exception as error:
        # Only the kind of error is reported: a decoder's message may quote the file, and with it a patient's name.
        raise ImageError(f"is a DICOM file {kind} whose pixels cannot be decoded ({type(error).__name__}).") from error


def _decoded(dataset: Any, voi: str) -> Film:
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    stored = pixel_array(dataset, index=0)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        colour = apply_color_lut(stored, dataset)
        film = _decode.to_grey8(colour[..., ::-1], 8 * colour.dtype.itemsize, voi)
    elif stored.ndim == 3:
        film = _decode.to_grey8(stored[..., ::-1], int(dataset.BitsStored), voi)
    else:
        film = Film(*_RULES[voi](dataset, stored, apply_modality_lut(stored, dataset)))
    inverse = photometric == "MONOCHROME1" or str(dataset.get("PresentationLUTShape", "")) == "INVERSE"
    return Film(255 - film.grey if inverse else film.grey, film.voi, _facts(dataset))


def _by_file(dataset: Any, stored: npt.NDArray[Any], values: npt.NDArray[Any]) -> tuple[_decode.Grey, str]:
    if "VOILUTSequence" in dataset:
        from pydicom.pixels import apply_voi

        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return scaled(apply_voi(values, dataset), 0, (1 << bits) - 1), "table"
    if "WindowCenter" in dataset or "WindowWidth" in dataset:
        centre, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
        function = str(dataset.get("VOILUTFunction", "LINEAR") or "LINEAR").upper()
        if not (np.isfinite(centre) and width >= (1 if function == "LINEAR" else 1e-9)):
            raise ImageError("is a DICOM file with a window width that is not a positive number.")
        # PS3.3, C.11.2.1.2 and C.11.2.1.3
        if function == "SIGMOID":
            return scaled(1 / (1 + np.exp(-4 * (values.astype(np.float64) - centre) / width)), 0, 1), "window"
        low, high = (centre - width / 2, centre + width / 2)
        return scaled(values, low, high if function == "LINEAR_EXACT" else high - 1), "window"
    plain = "ModalityLUTSequence" not in dataset and float(dataset.get("RescaleSlope", 1)) == 1
    if plain and stored.dtype.kind == "u":
        return scaled(stored, 0, (1 << int(dataset.BitsStored)) - 1), "bits"
    return _own_range(values)


def _by_bits(dataset: Any, stored: npt.NDArray[Any], values: npt.NDArray[Any]) -> tuple[_decode.Grey, str]:
    if stored.dtype.kind == "f":  # has no range but its own
        return _own_range(values)
    if "ModalityLUTSequence" in dataset:
        return scaled(values, 0, (1 << int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])) - 1), "bits"
    bits = int(dataset.BitsStored)
    low = -(1 << bits - 1) if stored.dtype.kind == "i" else 0
    grey = scaled(stored, low, low + (1 << bits) - 1)
    return 255 - grey if float(dataset.get("RescaleSlope", 1)) < 0 else grey, "bits"


def _by_percentile(dataset: Any, stored: npt.NDArray[Any], values: npt.NDArray[Any]) -> tuple[_decode.Grey, str]:
    padding = dataset.get("PixelPaddingValue")
    shown = values[np.isfinite(values) & ((stored != padding) if isinstance(padding, int) else True)]
    if not shown.size:
        raise ImageError("is a DICOM file without a finite pixel.")
    return scaled(np.nan_to_num(values, nan=shown.min()), *np.percentile(shown, PERCENTILES)), "percentile"


_RULES = {"file": _by_file, "full": _by_bits, "percentile": _by_percentile}


def _own_range(values: npt.NDArray[Any]) -> tuple[_decode.Grey, str]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ImageError("is a DICOM file without a finite pixel.")
    return scaled(np.nan_to_num(values, nan=finite.min()), float(finite.min()), float(finite.max())), "range"


def _first(value: Any) -> float:
    return float(value if isinstance(value, int | float | str) else value[0])


def _facts(dataset: Any) -> dict[str, Any]:
    """What the header says of the film; values are only taken in the form that the standard gives them."""
    facts: dict[str, Any] = {}
    for name in ("ImagerPixelSpacing", "PixelSpacing"):  # the second is calibrated, where a file has both
        try:
            rows, columns = (float(number) for number in dataset.get(name) or ())
        except (TypeError, ValueError):
            continue
        if 0 < rows < 100 and 0 < columns < 100:
            facts |= {"spacing_mm": [rows, columns], "spacing": name}
    words = {
        "orientation": dataset.get("PatientOrientation"),
        "laterality": dataset.get("ImageLaterality") or dataset.get("Laterality"),
        "view": dataset.get("ViewPosition"),
    }
    for name, value in words.items():
        text = value if isinstance(value, str) else "\\".join(map(str, value or ()))
        if re.fullmatch(r"[A-Z]{1,4}(\\[A-Z]{1,4})?", text):
            facts[name] = text
    return facts


def _checked_kind(dataset: Any) -> str:
    """What a file is; by that name is refused what is no film: no picture, several frames, unknown compressions."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID, JPEGExtended12Bit

    from cxrfeat._images import jpeg12  # noqa: F401  (it adds a decoder)

    meta = getattr(dataset, "file_meta", {})
    uid = UID(str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""))
    kind = "of an unknown kind" if uid.name == uid else f"of the kind {uid.name!r}"
    if not any(name in dataset for name in _PIXELS):
        raise ImageError(f"is a DICOM file {kind}, which holds no picture.")
    if any(word in uid.name for word in _NO_FILM):
        raise ImageError(f"is a DICOM file {kind}, which is no film.")
    if (frames := int(dataset.get("NumberOfFrames", 1) or 1)) > 1:
        raise ImageError(f"is a DICOM file {kind} with {frames} frames; a film has one.")
    syntax = meta.get("TransferSyntaxUID")
    if not syntax:
        raise ImageError("is a DICOM file that does not name its transfer syntax.")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        named = "in an unknown way" if syntax.name == syntax else f"as {syntax.name!r}"
        raise ImageError(f"is a DICOM file that is compressed {named}, which is not read.") from error
    deep = syntax == JPEGExtended12Bit and dataset.get("BitsStored") != 8  # which Pillow is no decoder for
    if not decoder.is_available or (deep and decoder.available_plugins == ("pillow",)):
        raise MissingExtraError(f"Reading DICOM files compressed as {syntax.name!r}", "dicom")
    return kind


def _check_size(dataset: Any) -> None:
    """Refuse what the header, or that of a compressed frame, says to be too large."""
    _decode.check_pixels(int(dataset.Columns), int(dataset.Rows))
    if dataset.file_meta.TransferSyntaxUID.is_compressed and "PixelData" in dataset:
        from pydicom.encaps import get_frame

        start = get_frame(dataset.PixelData, 0, number_of_frames=1)
        if (size := _frame_size(start)) is not None:
            _decode.check_pixels(*size)


def _frame_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a JPEG, JPEG-LS or JPEG 2000 frame (T.81, T.87, T.800); None of another."""
    if frame[:4] == b"\xff\x4f\xff\x51":
        x, y, x0, y0 = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
        return x - x0, y - y0
    at = 2
    while frame[:2] == b"\xff\xd8" and frame[at : at + 1] == b"\xff":
        marker = frame[at + 1]
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            return int.from_bytes(frame[at + 7 : at + 9], "big"), int.from_bytes(frame[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _checked(data: bytes) -> bytes:
    """The file, unless its data set is deflated and inflates to more than the limit."""
    if _DEFLATED not in data[:2048]:
        return data
    limit = _decode._limit("CXRFEAT_MAX_FILE_BYTES", _decode.MAX_FILE_BYTES)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(data[144 + int.from_bytes(data[140:144], "little") :], limit)
    if inflater.unconsumed_tail:
        raise ImageError(f"inflates to more than the limit of {limit:,} bytes (CXRFEAT_MAX_FILE_BYTES).")
    return data
