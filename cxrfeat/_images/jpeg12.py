"""A plugin of pydicom for JPEG of 12 bits by GDCM; pydicom's own plugins leave it to a library under the GPL."""

from __future__ import annotations

from typing import Any

from pydicom import uid
from pydicom.pixels.decoders import JPEGExtended12BitDecoder

DECODER_DEPENDENCIES = {uid.JPEGExtended12Bit: ("numpy", "gdcm>=3.0.10")}


def is_available(syntax: str) -> bool:
    """Whether GDCM is installed; asked by pydicom."""
    try:
        import gdcm
    except ImportError:
        return False
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    return syntax in DECODER_DEPENDENCIES


def decode_frame(frame: bytes, runner: Any) -> bytes:
    """Decode one frame of grey pixels; called by pydicom."""
    import gdcm

    if runner.samples_per_pixel != 1:
        raise NotImplementedError("grey pixels only")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(runner.transfer_syntax))))
    bits = runner.bits_stored
    image.SetPixelFormat(gdcm.PixelFormat(1, runner.bits_allocated, bits, bits - 1, runner.pixel_representation))
    return bytes(image.GetBuffer().encode("utf-8", "surrogateescape"))  # GDCM returns its bytes as text


JPEGExtended12BitDecoder.add_plugin("cxrfeat", (__name__, "decode_frame"))  # here, since a module runs once
