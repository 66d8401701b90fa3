"""Every kind of file becomes the same 8-bit grey picture, and what is not a whole picture is refused."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest

from cxrfeat import _machine as machine
from cxrfeat._images import decode
from cxrfeat.errors import ImageError

GREY = np.random.default_rng(0).integers(0, 256, (40, 56), dtype=np.uint8)


def encode(pixels, ending=".png"):
    return cv2.imencode(ending, pixels)[1].tobytes()


def test_8_bit_grey_png_is_untouched():
    np.testing.assert_array_equal(decode.decode_grey(encode(GREY)), GREY)


def png_of(filters, width=37, interlace=0):
    """A PNG of random filtered bytes, made by hand, so that every filter occurs: any bytes are valid ones."""
    raw = np.random.default_rng(1).integers(0, 256, (len(filters), width + 1), dtype=np.uint8)
    raw[:, 0] = filters

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(filters), 8, 0, 0, 0, interlace)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw.tobytes()))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("cores", [1, 64])
@pytest.mark.parametrize("filters", [[0] * 9, [1] * 9, [2] * 9, [3] * 9, [4] * 9, [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]])
def test_every_png_filter_is_undone_as_opencv_does(filters, cores, monkeypatch):
    # On few cores another decoder than OpenCV's is taken: the pixels, and with them the embeddings, must not know.
    monkeypatch.setattr(machine, "cores", lambda: cores)
    data = png_of(filters)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decode.decode_grey(data), expected)
    assert (decode._plain_png(data) is None) == (cores == 64)


def test_a_flipped_byte_is_refused_or_decoded_as_opencv_does(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 1)
    whole = encode(GREY)
    for at in np.random.default_rng(2).integers(8, len(whole), 150):
        data = bytearray(whole)
        data[at] ^= 0x41
        fast = decode._plain_png(bytes(data))
        if fast is not None:
            np.testing.assert_array_equal(fast, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))


def test_equal_channels_and_alpha_give_the_grey_back():
    for pixels in (cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR), cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGRA)):
        np.testing.assert_array_equal(decode.decode_grey(encode(pixels)), GREY)


def test_colour_is_weighed_by_bt601():
    colour = np.zeros((10, 10, 3), np.uint8)
    colour[:] = (10, 100, 200)  # B, G, R
    assert abs(int(decode.decode_grey(encode(colour))[0, 0]) - (0.114 * 10 + 0.587 * 100 + 0.299 * 200)) <= 1


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_pixels_are_scaled_by_the_depth_that_holds_them(bits):
    deep = np.full((12, 12), (1 << bits) - 1, np.uint16)
    deep[0, 0] = 0
    deep[0, 1] = (1 << bits) // 2
    grey = decode.decode_grey(encode(deep))
    assert grey[0, 0] == 0
    assert grey[5, 5] == 255
    assert abs(int(grey[0, 1]) - 128) <= 1


def test_tiff_and_bmp_are_read():
    for ending in (".tiff", ".bmp"):
        np.testing.assert_array_equal(decode.decode_grey(encode(GREY, ending)), GREY)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused_and_not_half_decoded(ending, share):
    data = encode(GREY, ending)
    with pytest.raises(ImageError, match=r"truncated|decoded"):
        decode.decode_grey(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(50) + b"IEND"])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(ImageError):
        decode.decode_grey(data)


def test_a_flipped_bit_in_the_pixels_is_refused():
    data = bytearray(encode(GREY))
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError):
        decode.decode_grey(bytes(data))


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ImageError, match="cannot be read"):
        decode.read_grey(tmp_path / "none.png")


def dicom(pixels, photometric="MONOCHROME2", stored=12, window=None):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("x.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PatientName, dataset.PatientID = "Secret^Name", "4711"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = stored, stored - 1, 0
    if window:
        dataset.WindowCenter, dataset.WindowWidth = window
    dataset.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def test_dicom_of_8_bits_gives_its_pixels():
    np.testing.assert_array_equal(decode.decode_grey(dicom(GREY, stored=8)), GREY)


def test_dicom_monochrome1_is_inverted():
    np.testing.assert_array_equal(decode.decode_grey(dicom(GREY, "MONOCHROME1", stored=8)), 255 - GREY)


def test_dicom_of_12_bits_is_scaled_by_the_bits_stored():
    deep = GREY.astype(np.uint16) * 16
    expected = np.rint(deep * (255 / 4095))
    np.testing.assert_array_equal(decode.decode_grey(dicom(deep)), expected)


def test_dicom_window_decides_black_and_white():
    deep = np.linspace(0, 4095, 40 * 56).reshape(40, 56).astype(np.uint16)
    grey = decode.decode_grey(dicom(deep, window=(2048, 1024)))
    assert (grey[deep < 1500] == 0).all()
    assert (grey[deep > 2600] == 255).all()


def test_an_error_about_a_dicom_file_never_tells_the_patient():
    data = dicom(GREY, stored=8)
    with pytest.raises(ImageError) as raised:
        decode.decode_grey(data[: len(data) - 100])
    assert "Secret" not in str(raised.value)
    assert "4711" not in str(raised.value)
