import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("s3fs", reason="the extra `s3` is not installed")
pytest.importorskip("moto", reason="a package of the dev group")


@pytest.fixture(scope="module")
def server():
    import fsspec

    from cxrfeat._remote import transfer

    spec = importlib.util.spec_from_file_location("s3_server", Path(__file__).with_name("s3_server.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.S3Server()
    transfer._filesystem.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": server.url, "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        patch.setattr("cxrfeat._remote.transfer.FIRST_DELAY", 0.001)
        patch.setattr("cxrfeat._remote.transfer.SILENCE", 0.4)
        options = {"use_listings_cache": False, "skip_instance_cache": True}
        server.fs = fsspec.filesystem("s3", endpoint_url=server.url, key="x", secret="y", **options)
        yield server
    transfer._filesystem.cache_clear()
    server.stop()


@pytest.fixture
def store(server):
    """The server, without faults, and with an empty bucket `films`."""
    server.calm()
    if server.fs.exists("films"):
        server.fs.rm("films", recursive=True)  # and the bucket with it
    server.fs.mkdir("films")
    server.requests.clear()
    return server


@pytest.fixture(scope="session")
def film():
    """Make the bytes of a PNG of smooth random structure, different for every seed."""

    def draw(seed: int, size: int = 64) -> bytes:
        coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
        return cv2.imencode(".png", cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))[1].tobytes()

    return draw
