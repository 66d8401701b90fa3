"""DICOM: the first frame of a file, windowed as it asks, as 8-bit grey."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrfeat._images import decode as _decode
from cxrfeat.errors import ImageError, MissingExtraError

Grey = npt.NDArray[np.uint8]


_DEFLATED = b"1.2.840.10008.1.2.1.99"


def decode(data: bytes) -> Grey:
    """Decode a DICOM file's bytes.

    The window or table of the file decides black and white; without one, the bits stored; for floating-point and
    rescaled pixels without one, the picture's own range. MONOCHROME1 is inverted, a colour palette applied.
    """
    try:
        import pydicom
        from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
    except ImportError as error:
        raise MissingExtraError("Reading DICOM", "dicom") from error
    dataset = pydicom.dcmread(io.BytesIO(_checked(data)))
    _check_size(dataset)
    stored = pixel_array(dataset, index=0)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        colour = apply_color_lut(stored, dataset)
        return _decode.to_grey8(colour[..., ::-1], bits=8 * colour.dtype.itemsize)
    if stored.ndim == 3:
        return _decode.to_grey8(stored[..., ::-1], bits=int(dataset.BitsStored))
    grey = _windowed(dataset, stored, apply_modality_lut(stored, dataset))
    return 255 - grey if photometric == "MONOCHROME1" else grey


def _windowed(dataset: Any, stored: npt.NDArray[Any], values: npt.NDArray[Any]) -> Grey:
    if "VOILUTSequence" in dataset:
        from pydicom.pixels import apply_voi

        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return _scaled(apply_voi(values, dataset), 0, (1 << bits) - 1)
    if "WindowCenter" in dataset or "WindowWidth" in dataset:
        centre, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
        function = str(dataset.get("VOILUTFunction", "LINEAR") or "LINEAR").upper()
        if not (np.isfinite(centre) and width >= (1 if function == "LINEAR" else 1e-9)):
            raise ImageError("is a DICOM file with a window width that is not a positive number.")
        # PS3.3, C.11.2.1.2 and C.11.2.1.3
        if function == "SIGMOID":
            return _scaled(1 / (1 + np.exp(-4 * (values.astype(np.float64) - centre) / width)), 0, 1)
        low, high = (centre - width / 2, centre + width / 2)
        return _scaled(values, low, high) if function == "LINEAR_EXACT" else _scaled(values, low, high - 1)
    plain = "ModalityLUTSequence" not in dataset and float(dataset.get("RescaleSlope", 1)) == 1
    if plain and stored.dtype.kind == "u":
        return _scaled(stored, 0, (1 << int(dataset.BitsStored)) - 1)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ImageError("is a DICOM file without a finite pixel.")
    return _scaled(np.nan_to_num(values, nan=finite.min()), float(finite.min()), float(finite.max()))


def _scaled(values: npt.NDArray[Any], low: float, high: float) -> Grey:
    share = (values.astype(np.float64) - low) * (255.0 / max(high - low, 1e-12))
    return np.clip(np.rint(share), 0, 255).astype(np.uint8)


def _first(value: Any) -> float:
    return float(value if isinstance(value, int | float | str) else value[0])


def _check_size(dataset: Any) -> None:
    """Refuse what the header, or that of a compressed frame, says to be too large."""
    _decode.check_pixels(int(dataset.Columns), int(dataset.Rows))
    if dataset.file_meta.TransferSyntaxUID.is_compressed and "PixelData" in dataset:
        from pydicom.encaps import get_frame

        start = get_frame(dataset.PixelData, 0, number_of_frames=int(dataset.get("NumberOfFrames", 1) or 1))
        if start[:2] == b"\xff\xd8" or start[:4] == b"\xff\x4f\xff\x51":
            _decode.check_header(start)


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
