"""A cluster is connected to or it is said why not, and what fails on a worker names the worker."""

import os
import socket
import sys
from threading import Thread

import pytest

import cxrfeat
from cxrfeat import _cluster as cluster
from cxrfeat.errors import ClusterError, EmbeddingFileError

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ray's test cluster needs POSIX")


@pytest.fixture(scope="module")
def address():
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield started.address
    started.shutdown()


def test_an_address_where_no_ray_is():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # bound, and nothing listens
        with pytest.raises(ClusterError, match=f"no Ray cluster answers at {address}"), cluster.connected(address):
            pass
    with socket.create_server(("127.0.0.1", 0)) as other:
        Thread(target=lambda: other.accept()[0].sendall(b"220 mail\r\n"), daemon=True).start()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"what answers at {address} is no Ray"), cluster.connected(address):
            pass
    for wrong in ("ray://127.0.0.1:10001", "head", "head:x"):
        with pytest.raises(ClusterError, match="is no address"), cluster.connected(wrong):
            pass
    assert not ray.is_initialized()


def test_an_error_on_a_worker_names_it(address):
    @cluster.told
    def fails(kind):
        if kind == "dies":
            os._exit(1)
        raise {"ours": EmbeddingFileError("the file is damaged."), "disk": OSError(28, "No space left")}[kind]

    with cluster.connected(address) as connection:
        for kind, words in {"ours": "the file is damaged", "disk": "No space left", "dies": "WorkerCrashed"}.items():
            with pytest.raises(Exception) as raised:
                connection.get(connection.remote(max_retries=0)(fails).remote(kind))
            found = cluster.sentence(raised.value)
            assert isinstance(found, ClusterError) and words in str(found) and "\n" not in str(found)
            assert kind == "dies" or str(found).startswith(f"worker on {socket.gethostname()}, process ")
    assert not ray.is_initialized()


def test_workers_with_another_version_or_none(address, monkeypatch):
    with cluster.connected(address):
        pass
    monkeypatch.setattr(cluster, "__version__", "9.9")
    there = f"has cxrfeat {cxrfeat.__version__}, and this process cxrfeat 9.9"
    with pytest.raises(ClusterError, match=f"the worker on {socket.gethostname()} {there}"), cluster.connected(address):
        pass
    assert not ray.is_initialized(), "it stays connected after an error"
