"""DICOM as radiology has it: every transfer syntax, what is no film by its name, black and white, and no names."""

import base64
import contextlib
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxrfeat._images import decode
from cxrfeat._images.choices import VOIS
from cxrfeat.errors import ImageError, MissingExtraError

pydicom = pytest.importorskip("pydicom")
from pydicom import uid  # noqa: E402
from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import get_decoder, pixel_array  # noqa: E402

DEEP = np.add.outer(np.arange(24) * 90, np.arange(20) * 60).astype(np.uint16)
"""12 bits."""

# DEEP in the compressions that nothing here can write, made by imagecodecs 2026.3.6.
JPEG_12 = base64.b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV009930RaI40RaI40RaI40s;X60RaO70s;a90|W#E0|NsD1O^2J1O)^G0|f^K1qKEN1_lHL2L}fR2L=WP"
    "2LHhT3k(1l02BcM5di<h02TlN0RaF200000000000000C3l9Ip03i?n00jdD0RR9100000000003n)fnH&t>22MH-tWB=L!2mt{A06zf8GnaBq"
    "y$nir=4LPt050U2dKi@L%*<dJQNl?w{dw&AQ}kwhbRZ?JUCA=^F)7=bn7}*$yOL$-VpF#>F@R-92_(z)=d<Zg(V6kkfR?#;B+Jmmr*39r0Pq6t"
    "NtdCCPTb7K0hJsilP}kv&!s;`XU9SV|Je"
)
HTJ2K = base64.b85decode(
    "|4;u>04YEK0000K0000O00000000000000K0000O0000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&kdTm&kdTmw"
    "h=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00000rvL%}lfVEbU-ktDbO68r62Jfx0I~vybN~$e0|#^fzyK3K022UV_y7xZ0Oj%kA~XQN"
    "02L4b1yCV`00J-qb^tWfO!L4(0sgiCzyKA{00n3a85kHcF#Omr*WrtI0F)^yDJk>}MlpfxxB$QaEjR!LthR02wr$(CZQJkqdU|?#aDsXOvND-W"
    "CX>lzvj0#7J%~Vi_8|f6y#W8&"
)
JPEG_LOSSLESS = base64.b85decode(
    "|JeV;02TlN0RaF20000000000000062Mqti01FHN7yuLj01*KH+5iXv000I60MGvM<HwI4Jb3Zr$B!O7c=6-P($%Y0ty;Be)vH#mTD5A`t7}VE"
    "ty;Be)vH#mTD5A`t5&V8En2l|)vH#mTD5A`t5&UAwzRcs)vH#mTD5A`t5&UAwQAbZ)vH#mTD5A`t5&UAwQAL?YfDzGTD5A`t5&UAwQAL?R;{fq"
    "TD5A`t5&UAwQAL?R;^mLw6$v0t5&UAwQAL?R;^mKYTDA(t5&UAwQAL?R;^mKYSpW2OIEE~wQAL?R;^mKYSpV&t*tFuwQAL?R;^mKYSpV&ty;FU"
    "wQAL?R;^mKYSpV&ty;Be+S1jlR;^mKYSpV&ty;Be)vIeuR;^mKYSpV&ty;Be)vH#mtu0!$YSpV&ty;Be)vH#mTDG*cYSpV&ty;Be)vH#mTD5B0"
    "($%Y0ty;Be)vH#mTD5A`t7}VEty;Be)vH#mTD5A`t5&V8En2l|)vH#mTD5A`t5&UAwzRcs)vH#mTD5A`t5&UAwQAbZ)vH#mTD5A`t5&UAwQAL?"
    "YfDzGTD5A`t5&UAwQAL?R;{fqTD5A`t5&UAwQAL?R;^mJ|Je"
)


def film(pixels=DEEP, syntax=uid.ExplicitVRLittleEndian, frame=None, **elements):
    """A film's bytes, with names of a person wherever a header has room for them."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = uid.DigitalXRayImageStorageForPresentation, syntax
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    dataset = FileDataset("x.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.PatientName, dataset.PatientID, dataset.OtherPatientNames = "Secret^Name", "S3CRET", "Secret"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = 12 if pixels.dtype.itemsize == 2 else 8
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() if frame is None else encapsulate([frame])
    if frame is not None:
        dataset["PixelData"].is_undefined_length = True
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.HighBit = dataset.BitsStored - 1
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def compressed(syntax, pixels=DEEP):
    dataset = pydicom.dcmread(io.BytesIO(film(pixels)))
    dataset.compress(syntax, generate_instance_uid=False)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


def needs(syntax):
    if not get_decoder(syntax).is_available:
        pytest.skip(f"no decoder of {syntax.name}")


# --- compressions


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (uid.ImplicitVRLittleEndian, None), (uid.DeflatedExplicitVRLittleEndian, None), (uid.RLELossless, ...),
        (uid.JPEGLossless, JPEG_LOSSLESS), (uid.JPEGLosslessSV1, JPEG_LOSSLESS), (uid.JPEGLSLossless, ...),
        (uid.JPEG2000Lossless, ...), (uid.HTJ2KLossless, HTJ2K), (uid.HTJ2K, HTJ2K),
    ],
    ids=lambda value: value.name if isinstance(value, uid.UID) else "",
)  # fmt: skip
def test_lossless_compressions_give_every_pixel_back(syntax, frame):
    needs(syntax)
    pixels = np.tile(DEEP, (4, 4)) if frame is ... else DEEP  # encoders of JPEG 2000 take nothing smaller
    data = compressed(syntax, pixels) if frame is ... else film(syntax=syntax, frame=frame)
    found = decode.decode_film(data)
    np.testing.assert_array_equal(found.grey, decode.decode_grey(film(pixels)))
    assert found.voi == "bits"


def test_jpeg_of_8_and_of_12_bits_is_near_the_original():
    needs(uid.JPEGBaseline8Bit)
    smooth = (DEEP // 16).astype(np.uint8)
    frame = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    found = decode.decode_grey(film(smooth, uid.JPEGBaseline8Bit, frame))
    expected = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.abs(found.astype(int) - expected).max() <= 1, "a second decoder"
    pytest.importorskip("gdcm")
    deep = decode.decode_grey(film(syntax=uid.JPEGExtended12Bit, frame=JPEG_12))
    assert np.abs(deep.astype(int) - decode.decode_grey(film())).max() <= 1


def test_near_lossless_jpeg_ls_is_as_near_as_it_says():
    jpeg_ls = pytest.importorskip("jpeg_ls")
    frame = bytes(jpeg_ls.encode_array(DEEP, lossy_error=16))
    found = decode.decode_grey(film(syntax=uid.JPEGLSNearLossless, frame=frame))
    assert np.abs(found.astype(int) - decode.decode_grey(film())).max() <= 2


def test_a_frame_that_promises_too_much_is_refused_by_its_own_header(monkeypatch):
    """The data set says 24 x 20; the frame in it is what would take the memory."""
    monkeypatch.setenv("CXRFEAT_MAX_PIXELS", "481")
    for syntax, frame in ((uid.JPEGLosslessSV1, JPEG_LOSSLESS), (uid.HTJ2KLossless, HTJ2K)):
        needs(syntax)
        at = frame.index(b"\x00\x18\x00\x14") if syntax == uid.JPEGLosslessSV1 else 14  # rows
        huge = frame[:at] + b"\xff\xff" + frame[at + 2 :]
        with pytest.raises(ImageError, match="65535 pixels, more than the limit"):
            decode.decode_film(film(syntax=syntax, frame=huge))


def test_a_compression_without_its_decoder_names_the_extra(monkeypatch):
    from pydicom.pixels.decoders import HTJ2KLosslessDecoder

    monkeypatch.setattr(HTJ2KLosslessDecoder, "_available", {})
    with pytest.raises(MissingExtraError, match=r"High-Throughput JPEG 2000.*cxrfeat\[dicom\]"):
        decode.decode_film(film(syntax=uid.HTJ2KLossless, frame=HTJ2K))
    with pytest.raises(ImageError, match="compressed as 'MPEG2 Main Profile / Main Level', which is not read"):
        decode.decode_film(film(syntax=uid.MPEG2MPML, frame=HTJ2K))


@pytest.mark.filterwarnings("ignore")
def test_every_file_that_pydicom_ships_is_an_image_or_refused_by_its_kind():
    """All decoders that are installed agree on each of them: lossless ones to the bit, lossy ones to a grey value."""
    folder = Path(pydicom.__file__).parent / "data"
    pictures, refused, compared = 0, [], 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.read_bytes()[128:132] != b"DICM":
            continue
        try:
            found = decode.decode_film(decode.read_bytes(path))
        except ImageError as error:
            refused.append(str(error))
            continue
        pictures += 1
        assert found.grey.dtype == np.uint8 and found.grey.ndim == 2
        syntax = pydicom.dcmread(path, specific_tags=["Rows"]).file_meta.TransferSyntaxUID
        several = []
        for plugin in get_decoder(syntax).available_plugins:
            with contextlib.suppress(RuntimeError, ValueError):  # not every decoder takes every file
                several.append(pixel_array(path, index=0, decoding_plugin=plugin))
        for other in several[1:]:
            compared += 1
            assert np.abs(other.astype(int) - several[0]).max() <= (0 if "Lossless" in syntax.name else 3), path
    assert pictures > 60
    assert len(plugins_of_all()) < 4 or compared > 10
    named = ("of the kind", "unknown kind", "pixels, more than", "at least 8 x 8", "does not name", "pixels of type")
    assert all(any(words in why for words in named) for why in refused), refused
    kinds = {why.split("'")[1] for why in refused if "'" in why}
    assert {"Segmentation Storage", "RT Dose Storage", "Comprehensive SR Storage", "RT Plan Storage"} <= kinds


def plugins_of_all():
    return {one for syntax in (uid.JPEG2000, uid.JPEGLSLossless) for one in get_decoder(syntax).available_plugins}


@pytest.mark.parametrize(
    ("kind", "elements", "sentence"),
    [
        (uid.EncapsulatedPDFStorage, {"PixelData": None}, "'Encapsulated PDF Storage', which holds no picture"),
        (uid.BasicTextSRStorage, {"PixelData": None}, "'Basic Text SR Storage', which holds no picture"),
        (uid.SegmentationStorage, {}, "'Segmentation Storage', which is no film"),
        (uid.RTDoseStorage, {}, "'RT Dose Storage', which is no film"),
        (uid.UltrasoundMultiFrameImageStorage, {"NumberOfFrames": 30}, "with 30 frames; a film has one"),
    ],
)
def test_what_is_no_film_is_refused_by_its_kind(kind, elements, sentence):
    dataset = pydicom.dcmread(io.BytesIO(film(SOPClassUID=kind)))
    for name, value in elements.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    with pytest.raises(ImageError, match=sentence):
        decode.decode_film(buffer.getvalue())


# --- black and white


def test_monochrome1_is_inverted_after_the_window():
    """PS3.3, C.7.6.3.1.2: the lowest value is white after the VOI transform, which is of the values as they are."""
    window = {"WindowCenter": 1000, "WindowWidth": 500}
    upright = decode.decode_grey(film(**window))
    np.testing.assert_array_equal(
        decode.decode_grey(film(PhotometricInterpretation="MONOCHROME1", **window)), 255 - upright
    )
    values = DEEP.astype(float)
    expected = np.rint(255 - np.clip((values - 750) / 499, 0, 1) * 255)
    found = decode.decode_grey(film(PhotometricInterpretation="MONOCHROME1", **window))
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("voi", VOIS)
def test_an_inverse_presentation_table_inverts_once(voi):
    plain = decode.decode_grey(film(), voi)
    for elements, inverted in (
        ({"PresentationLUTShape": "IDENTITY"}, False),
        ({"PresentationLUTShape": "INVERSE"}, True),
        ({"PresentationLUTShape": "INVERSE", "PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
    ):
        np.testing.assert_array_equal(decode.decode_grey(film(**elements), voi), 255 - plain if inverted else plain)


def test_the_full_range_is_that_of_the_bits_signed_or_not_whatever_the_window():
    window = {"WindowCenter": 1000, "WindowWidth": 500}
    found = decode.decode_film(film(**window), "full")
    np.testing.assert_array_equal(found.grey, np.rint(DEEP * (255 / 4095)))
    assert found.voi == "bits"
    signed = (DEEP.astype(np.int16) - 2048).astype(np.int16)
    np.testing.assert_array_equal(decode.decode_grey(film(signed), "full"), found.grey)
    falling = decode.decode_grey(film(RescaleSlope=-1, RescaleIntercept=4095), "full")
    np.testing.assert_array_equal(falling, 255 - found.grey)


def test_percentiles_leave_out_padding_and_do_not_follow_one_bright_pixel():
    rng = np.random.default_rng(0)
    pixels = rng.integers(300, 900, (60, 50)).astype(np.uint16)
    low, high = np.percentile(pixels, (0.5, 99.5))
    expected = np.rint(np.clip((pixels - low) / (high - low), 0, 1) * 255)
    found = decode.decode_film(film(pixels), "percentile")
    assert np.abs(found.grey - expected).max() <= 1 and found.voi == "percentile"
    burnt = pixels.copy()
    burnt[5, 5] = 4095
    assert np.abs(decode.decode_grey(film(burnt), "percentile")[10:].astype(int) - found.grey[10:]).max() <= 1
    framed = np.zeros((90, 80), np.uint16)
    framed[15:75, 15:65] = pixels
    inside = decode.decode_grey(film(framed, PixelPaddingValue=0), "percentile")[15:75, 15:65]
    np.testing.assert_array_equal(inside, found.grey)


@pytest.mark.parametrize("voi", ["file", "full"])
def test_a_deep_png_and_dicom_of_the_same_values_agree(voi):
    deep = (DEEP * 20).astype(np.uint16)
    png = cv2.imencode(".png", deep)[1].tobytes()
    np.testing.assert_array_equal(decode.decode_grey(png, voi), decode.decode_grey(film(deep, BitsStored=16), voi))
    low = cv2.imencode(".png", DEEP // 4)[1].tobytes()  # 10 bits: today's rule sees it, the full range is 16
    assert decode.decode_grey(low).max() > 150
    assert decode.decode_grey(low, "full").max() == round(int(DEEP.max()) // 4 * 255 / 65535)


@pytest.mark.parametrize("kind", [".png", ".jpg", ".tif"])
def test_percentiles_are_of_every_kind_of_file(kind):
    grey = np.clip(np.add.outer(np.arange(60), np.arange(50)) + 40, 0, 255).astype(np.uint8)
    data = cv2.imencode(kind, grey)[1].tobytes()
    found = decode.decode_film(data, "percentile")
    assert found.voi == "percentile" and found.grey.min() == 0 and found.grey.max() == 255
    assert decode.decode_film(data).voi == ""


# --- what a header says


def test_spacing_orientation_and_laterality_are_kept_and_nothing_is_turned():
    found = decode.decode_film(
        film(PatientOrientation=["R", "F"], ImageLaterality="U", ViewPosition="PA", ImagerPixelSpacing=[0.2, 0.2])
    )
    assert found.facts == {
        "orientation": "R\\F",
        "laterality": "U",
        "view": "PA",
        "spacing_mm": [0.2, 0.2],
        "spacing": "ImagerPixelSpacing",
    }
    np.testing.assert_array_equal(found.grey, decode.decode_grey(film()))
    both = decode.decode_film(film(PixelSpacing=[0.14, 0.15], ImagerPixelSpacing=[0.2, 0.2])).facts
    assert both == {"spacing_mm": [0.14, 0.15], "spacing": "PixelSpacing"}, "the calibrated one"


@pytest.mark.filterwarnings("ignore")
def test_a_name_in_the_wrong_place_is_not_taken_for_a_fact(caplog, capfd):
    odd = {"ViewPosition": "SECRET NAME", "ImageLaterality": "SECRET", "PixelSpacing": [0.1, 0.2]}
    data = film(**odd).replace(b"0.1\\0.2 ", b"SECRET\\1"[:8])
    with caplog.at_level(logging.DEBUG):
        found = decode.decode_film(data)
    assert "S" not in json.dumps(found.facts)
    assert "secret" not in (caplog.text + "".join(capfd.readouterr())).lower()


def test_pydicoms_warnings_about_values_do_not_reach_the_terminal(tmp_path):
    """They quote the value: here a patient's name where a number belongs."""
    data = film(WindowCenter=1000, WindowWidth=500, AcquisitionNumber=1)
    (tmp_path / "a.dcm").write_bytes(data.replace(b"1000", b"Se^c").replace(b"1.2.840", b"Se^cret"[:7]))
    code = "import sys; from cxrfeat._images import decode\n"
    code += "try: decode.read_grey(sys.argv[1])\nexcept Exception as e: print(e)"
    found = subprocess.run([sys.executable, "-c", code, tmp_path / "a.dcm"], capture_output=True, text=True, check=True)
    assert "Se^c" not in found.stdout + found.stderr
    assert found.stdout
