"""Every kind of file becomes the same 8-bit grey picture, and what is not a whole picture is refused."""

import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

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


@pytest.mark.parametrize("filters", [[0] * 9, [1] * 9, [2] * 9, [3] * 9, [4] * 9, [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]])
def test_every_png_filter_is_undone_as_opencv_does(filters, monkeypatch):
    # Another decoder than OpenCV's is taken: the pixels, and with them the embeddings, must not know.
    data = png_of(filters)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decode.decode_grey(data), expected)
    assert decode._plain_png(data) is not None
    # Where threads would wait for its lock, it is taken by processes alone.
    monkeypatch.setattr(decode, "FEW_CORES", 0)
    assert decode._plain_png(data) is None
    monkeypatch.setattr(decode, "ALONE", True)
    assert decode._plain_png(data) is not None


def test_a_flipped_byte_is_refused_or_decoded_as_opencv_does():
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


# --- what is refused before a byte is decoded


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name in ("fifo.png", "device.png", "."):
        with pytest.raises(ImageError, match="regular"):
            decode.read_grey(tmp_path / name)
    with pytest.raises(ImageError, match="name"):
        decode.read_grey("a\0b.png")


def test_a_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    sparse = tmp_path / "sparse.png"
    with sparse.open("wb") as file:
        file.truncate(30 << 30)
    with pytest.raises(ImageError, match="bytes, more than the limit"):
        decode.read_grey(sparse)
    (tmp_path / "small.png").write_bytes(encode(GREY))
    monkeypatch.setenv("CXRFEAT_MAX_FILE_BYTES", "100")
    with pytest.raises(ImageError, match="more than the limit of 100"):
        decode.read_grey(tmp_path / "small.png")


def huge(kind):
    """A short file of 16,000 x 16,000 pixels by its header."""
    if kind == "pgm":
        return b"P5 16000 16000 255\n" + bytes(100)
    side, buffer = 16000, io.BytesIO()
    Image.fromarray(GREY).save(buffer, kind, **({"lossless": True} if kind == "webp" else {}))
    data = bytearray(buffer.getvalue())
    if kind == "tiff":
        (first,) = struct.unpack("<I", data[4:8])
        for entry in range(first + 2, first + 2 + 12 * struct.unpack("<H", data[first : first + 2])[0], 12):
            if struct.unpack("<H", data[entry : entry + 2])[0] in (256, 257):
                data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, side)
        return bytes(data)
    at, sides = {
        "png": (16, struct.pack(">II", side, side)),
        "jpeg": (data.find(b"\xff\xc0") + 5, struct.pack(">HH", side, side)),
        "bmp": (18, struct.pack("<ii", side, side)),
        "gif": (6, struct.pack("<HH", side, side)),
        "webp": (21, struct.pack("<I", (side - 1) | (side - 1) << 14)),
    }[kind]
    data[at : at + len(sides)] = sides
    if kind == "png":
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "bmp", "gif", "webp", "pgm"])
def test_a_header_that_promises_too_much_is_refused_without_the_memory(kind):
    data = huge(kind)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="limit"):
            decode.decode_grey(data)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_the_limit_can_be_named(monkeypatch):
    monkeypatch.setenv("CXRFEAT_MAX_PIXELS", str(GREY.size - 1))
    with pytest.raises(ImageError, match="CXRFEAT_MAX_PIXELS"):
        decode.decode_grey(encode(GREY))
    monkeypatch.setenv("CXRFEAT_MAX_PIXELS", str(GREY.size))
    np.testing.assert_array_equal(decode.decode_grey(encode(GREY)), GREY)


# --- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation_is_applied_whatever_the_format(kind, orientation):
    smooth = np.add.outer(np.arange(40) * 2, np.arange(56)).astype(np.uint8)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif}
    Image.fromarray(smooth).save(buffer, kind, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(buffer)).convert("L"))
    found = decode.decode_grey(buffer.getvalue())
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (0 if kind in ("PNG", "TIFF") else 3)


# --- depth


@pytest.mark.parametrize("hot", [1, 3])
def test_hot_pixels_do_not_darken_the_rest(hot):
    deep = (np.random.default_rng(0).integers(0, 4096, (200, 300))).astype(np.uint16)
    clean = decode.to_grey8(deep).grey
    deep.flat[:hot] = 65535
    found = decode.to_grey8(deep).grey
    np.testing.assert_array_equal(found.flat[hot:], clean.flat[hot:])
    assert (found.flat[:hot] == 255).all()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_films_keep_the_values_they_had(bits):
    """What version 0.1 computed, written out: embeddings of ordinary films stay what they were."""
    deep = np.random.default_rng(0).integers(0, 1 << bits, (100, 120)).astype(np.uint16)
    expected = np.clip(np.rint(deep * (255.0 / ((1 << bits) - 1))), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(decode.decode_grey(encode(deep)), expected)


# --- DICOM


def changed(data, **elements):
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(io.BytesIO(data))
    for name, value in elements.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


def test_a_window_keeps_its_own_range():
    """A film that fills half of its window stays half as bright: the window's ends are black and white."""
    deep = np.linspace(1000, 1512, 40 * 56).reshape(40, 56).astype(np.uint16)
    grey = decode.decode_grey(dicom(deep, window=(1512, 1025)))
    np.testing.assert_allclose(grey, np.rint((deep - 999.5) / 1024 * 255), atol=1)
    assert grey.max() < 130
    exact = decode.decode_grey(changed(dicom(deep, window=(1512, 1024)), VOILUTFunction="LINEAR_EXACT"))
    np.testing.assert_array_equal(exact, np.rint((deep - 1000.0) / 1024 * 255))
    sigmoid = decode.decode_grey(changed(dicom(deep, window=(1512, 1024)), VOILUTFunction="SIGMOID"))
    np.testing.assert_array_equal(sigmoid, np.rint(255 / (1 + np.exp(-4 * (deep - 1512.0) / 1024))))


def test_windows_agree_with_pydicom():
    pixels = pytest.importorskip("pydicom.pixels")
    pydicom = pytest.importorskip("pydicom")
    deep = np.random.default_rng(0).integers(0, 4096, (40, 56)).astype(np.uint16)
    for window in ((2048, 1024), ([700, 2048], [900, 1024]), (0, 1)):
        data = changed(dicom(deep, window=(1, 1)), WindowCenter=window[0], WindowWidth=window[1])
        theirs = pixels.apply_windowing(deep, pydicom.dcmread(io.BytesIO(data)))
        np.testing.assert_array_equal(decode.decode_grey(data), np.rint(theirs * (255 / 4095)))


def test_a_palette_gives_its_colours():
    pydicom = pytest.importorskip("pydicom")
    indices = np.tile(np.arange(4, dtype=np.uint8), (40, 14))
    table = np.array([65535, 0, 40000, 20000], np.uint16)  # an index says nothing of how bright its colour is
    dataset = pydicom.dcmread(io.BytesIO(dicom(indices, "PALETTE COLOR", stored=8)))
    for number in range(3):
        dataset.add_new((0x0028, 0x1101 + number), "US", [4, 0, 16])
        dataset.add_new((0x0028, 0x1201 + number), "OW", table.tobytes())
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    found = decode.decode_grey(buffer.getvalue())
    np.testing.assert_allclose(found, np.rint(table[indices] / 257), atol=1)


def test_float_pixels_use_their_own_range():
    pydicom = pytest.importorskip("pydicom")
    values = np.linspace(-0.5, 0.25, 40 * 56, dtype=np.float32).reshape(40, 56)
    dataset = pydicom.dcmread(io.BytesIO(dicom(GREY, stored=8)))
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated, dataset.FloatPixelData = 32, values.tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    found = decode.decode_grey(buffer.getvalue())
    np.testing.assert_array_equal(found, np.rint((values.astype(float) + 0.5) / 0.75 * 255))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 100, "WindowWidth": 0},
        {"WindowCenter": 100},
        {"RescaleSlope": "", "RescaleIntercept": 1},
        {"RescaleSlope": ["1", "2"], "RescaleIntercept": 0},
        {"VOILUTSequence": []},
        {"BitsAllocated": 32},
        {"Rows": 4000},
        {"Rows": 20000, "Columns": 20000},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
    ],
    ids=str,
)
def test_whatever_dicom_decoding_raises_is_that_images_failure(elements):
    data = dicom(GREY, stored=8)
    with pytest.raises(ImageError) as raised:
        decode.decode_grey(changed(data, **elements))
    assert "Secret" not in str(raised.value)


@pytest.mark.filterwarnings("ignore")
def test_pydicoms_own_files_are_decoded_or_refused():
    """The test files of pydicom: many are odd on purpose. Every one gives a picture or an ImageError."""
    pydicom = pytest.importorskip("pydicom")
    files = sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm"))
    decoded = 0
    for path in files:
        try:
            grey = decode.read_grey(path)
        except ImageError:
            continue
        decoded += 1
        assert grey.dtype == np.uint8 and grey.ndim == 2
    assert len(files) > 30 and decoded > 10


def test_a_deflated_file_that_inflates_too_far_is_refused(monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(io.BytesIO(dicom(np.zeros((400, 500), np.uint8), stored=8)))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    assert decode.decode_grey(buffer.getvalue()).shape == (400, 500)
    monkeypatch.setenv("CXRFEAT_MAX_FILE_BYTES", "100000")
    with pytest.raises(ImageError, match="inflates"):
        decode.decode_grey(buffer.getvalue())
