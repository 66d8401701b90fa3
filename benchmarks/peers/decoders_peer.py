"""Decoders of grey PNG and JPEG: processor time an image, and how much of it under Python's lock. Prints JSON."""

import ctypes
import io
import json
import statistics
import struct
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np

HOLDS = 10


def size(data):
    """Height and width in a PNG's header."""
    return struct.unpack(">II", data[16:24])[::-1]


def opencv(data):
    import cv2

    cv2.setNumThreads(1)
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def pillow(data):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)))


def kornia(data):
    from kornia_rs import io as kornia_io

    if data[:2] == b"\xff\xd8":
        return np.asarray(kornia_io.decode_image_jpegturbo(data, "mono"))
    return np.asarray(kornia_io.decode_image_png_u8(data, size(data), "mono"))


def libpng(data):
    import imagecodecs

    return imagecodecs.png_decode(data)


def libspng(data):
    import imagecodecs

    return imagecodecs.spng_decode(data)


def libjpeg(data):
    import imagecodecs

    return imagecodecs.jpeg8_decode(data)


def turbojpeg(data):
    import simplejpeg

    return simplejpeg.decode_jpeg(data, colorspace="GRAY")


def spng(data):
    import pyspng

    return pyspng.load(data)


def chrome(data):
    import skia

    found = np.empty((*size(data), 1), np.uint8)
    codec = skia.Codec.MakeFromData(skia.Data.MakeWithoutCopy(data))
    codec.getPixels(codec.getInfo().makeColorType(skia.kGray_8_ColorType), found, found.shape[1])
    return found


def ffmpeg(data):
    import av

    codec = av.CodecContext.create("png", "r")
    codec.thread_count = 1
    return codec.decode(av.Packet(data))[0].to_ndarray()


def gdal(data):
    import rasterio

    with rasterio.MemoryFile(data) as file, file.open() as picture:
        return picture.read(1)


def wuffs(data):
    from pywuffs import PixelFormat, aux

    config = aux.ImageDecoderConfig()
    config.pixel_format = PixelFormat.Y
    return aux.ImageDecoder(config).decode(data).pixbuf


PNG = [
    ("kornia-rs", kornia), ("OpenCV", opencv), ("Pillow", pillow),
    ("imagecodecs, libpng", libpng), ("imagecodecs, libspng", libspng),
    ("pyspng", spng), ("skia-python", chrome), ("PyAV, FFmpeg", ffmpeg),
    ("rasterio, GDAL", gdal), ("pywuffs", wuffs),
]  # fmt: skip
JPEG = [
    ("kornia-rs, libjpeg-turbo", kornia), ("OpenCV", opencv), ("Pillow", pillow),
    ("imagecodecs, libjpeg-turbo", libjpeg), ("simplejpeg", turbojpeg),
]  # fmt: skip


def without_the_lock(decode, film):
    """Milliseconds of processor time that decoding goes on for while another thread sleeps with the lock in its hand.

    No other process disturbs that, since nothing is measured in seconds of the clock. The most of a few goes: a go that
    begins in the middle has less.
    """
    sleep, over, found = ctypes.PyDLL(None).usleep, threading.Event(), []
    sys.setswitchinterval(0.08)  # longer than the sleep, so that nothing runs between it and the clock

    def work():
        while not over.is_set():
            decode(film)

    other = threading.Thread(target=work)
    other.start()
    clock = time.pthread_getcpuclockid(other.ident)
    for _ in range(HOLDS):
        time.sleep(5e-5)
        before = time.clock_gettime(clock)
        sleep(50_000)
        found.append(1000 * (time.clock_gettime(clock) - before))
    over.set()
    other.join()
    return max(found)


def main():
    folder, repeats = Path(sys.argv[1]), int(sys.argv[2])
    warnings.simplefilter("ignore")  # rasterio's, of pictures that are no maps
    rows = []
    for kind, decoders in (("png", PNG), ("jpg", JPEG)):
        films = [path.read_bytes() for path in sorted(folder.glob(f"*.{kind}"))]
        for name, decode in decoders:
            try:
                found = np.asarray(decode(films[0])).squeeze()
                assert kind == "jpg" or np.array_equal(found, pillow(films[0]))
            except Exception as error:  # not installed, or without a wheel for this system
                print(f"{name} is left out: {error!r}", file=sys.stderr)
                continue
            times = []
            for film in films:
                goes = []
                for _ in range(repeats):
                    begun = time.thread_time()
                    decode(film)
                    goes.append(1000 * (time.thread_time() - begun))
                ms = statistics.median(goes)
                times.append((ms, max(ms - without_the_lock(decode, film), 0.0)))
            ms, locked = (statistics.median(part) for part in zip(*times, strict=True))
            rows.append({"file": kind, "decoder": name, "ms": ms, "locked ms": locked})
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
