"""A Ray cluster is connected to or it is said why not; extractions and heads there are those of a single machine.

Whoever is killed, nothing is done twice. What fails on a worker names the worker. One cluster serves all of it.
"""

import logging
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

import cxrfeat
from cxrfeat import _cluster as connection
from cxrfeat._extract import make_recipe, on_ray
from cxrfeat._extract.on_ray import Job, Where, Worker
from cxrfeat._extract.pipeline import Block, Item
from cxrfeat._heads import fit_head, load_head
from cxrfeat._heads.cluster import ClusterSums
from cxrfeat._heads.solver.labels import Labels
from cxrfeat._heads.solver.rows import FileRows
from cxrfeat._store import EmbeddingFile, Writer, disk
from cxrfeat.errors import ClusterError, EmbeddingFileError, HeadError

ray = pytest.importorskip("ray")
pytest.importorskip("pyarrow")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ray's test cluster needs POSIX")
KILLS = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
NODE = {"num_cpus": 1, "num_gpus": 1, "include_dashboard": False, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def started(own_cache):
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args=NODE)
    yield started
    started.shutdown()


@pytest.fixture
def cluster(started):
    """Two nodes of one core and one GPU, which are none; the second may be removed."""
    if not started.worker_nodes:
        started.add_node(**NODE)
    return started


@pytest.fixture
def run(tmp_path):
    """Extract with DenseNet121, random weights, at 32 pixels."""
    options = {"cache": tmp_path / "cache", "weights": "random:0", "size": 32}
    return lambda study, **more: cxrfeat.extract(study, **{**options, **more})


def content(path):
    with EmbeddingFile.open(path) as file:
        return file.content_sha256


def children(pid, name):
    """Processes that a raylet of ours started, by what they call themselves."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            of = int(stat.read_text().rpartition(")")[2].split()[1])
            if of == pid and name in (stat.parent / "cmdline").read_text():
                found.append(int(stat.parent.name))
    return found


def workers(cluster):
    nodes = [cluster.head_node, *cluster.worker_nodes]
    return [pid for node in nodes for pid in children(raylet(node), "MapWorker")]


def raylet(node):
    return node.all_processes["raylet"][0].process.pid


def test_an_address_where_no_ray_is():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # bound, and nothing listens
        with pytest.raises(ClusterError, match=f"no Ray cluster answers at {address}"), connection.connected(address):
            pass
    with socket.create_server(("127.0.0.1", 0)) as other:
        Thread(target=lambda: other.accept()[0].sendall(b"220 mail\r\n"), daemon=True).start()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"what answers at {address} is no Ray"), connection.connected(address):
            pass
    for wrong in ("ray://127.0.0.1:10001", "head", "head:x"):
        with pytest.raises(ClusterError, match="is no address"), connection.connected(wrong):
            pass
    assert not ray.is_initialized()


def test_an_error_on_a_worker_names_it(cluster):
    @connection.told
    def fails(kind):
        if kind == "dies":
            os._exit(1)
        raise {"ours": EmbeddingFileError("the file is damaged."), "disk": OSError(28, "No space left")}[kind]

    with connection.connected(cluster.address) as module:
        for kind, words in {"ours": "the file is damaged", "disk": "No space left", "dies": "WorkerCrashed"}.items():
            with pytest.raises(Exception) as raised:
                module.get(module.remote(max_retries=0)(fails).remote(kind))
            found = connection.sentence(raised.value)
            assert isinstance(found, ClusterError) and words in str(found) and "\n" not in str(found)
            assert kind == "dies" or str(found).startswith(f"worker on {socket.gethostname()}, process ")
    assert not ray.is_initialized()


HEAD_DIES = """
import logging, os, signal, sys, time
from cxrfeat import _cluster as connection
logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stdout)
connection.GONE, connection.ASKED = 3.0, 0.5
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with connection.connected("local") as ray:
        from ray._private.worker import _global_node as node
        waits = ray.remote(lambda: time.sleep(1000)).remote()
        os.kill(node.all_processes["gcs_server"][0].process.pid, signal.SIGKILL)
        ray.get(waits if sys.argv[1] == "heard" else ray.remote(lambda: 0).remote())
except Exception as error:
    print(f"{type(error).__name__}: {error}")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def test_a_head_that_dies_is_said_and_not_waited_for():
    """Ray goes on for a minute, and then ends the process without a word; not all of its calls can be interrupted."""
    cases = {"heard": (0, "ClusterError"), "deaf": (2, "cxrfeat._cluster")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([sys.executable, "-c", HEAD_DIES, case], **pipes) for case in cases]
    for process, (code, who) in zip(running, cases.values(), strict=True):
        said, trace = process.communicate(timeout=60)
        assert process.returncode == code, trace
        assert re.search(rf"^{who}: the head of the Ray cluster, .*:\d+, has not answered", said, re.M)


def test_workers_with_another_version_or_none(cluster, monkeypatch):
    monkeypatch.setattr(connection, "__version__", "9.9")
    wrong = f"the worker on {socket.gethostname()} has cxrfeat {cxrfeat.__version__}, and this process cxrfeat 9.9"
    with pytest.raises(ClusterError, match=wrong), connection.connected(cluster.address):
        pass
    assert not ray.is_initialized(), "it stays connected after an error"


def test_the_file_of_a_single_machine_with_a_bad_image_and_gpus(make_study, run, cluster, tmp_path, caplog):
    study = make_study(24, size=32)
    study.paths()[5].write_bytes(b"no image")
    whole = run(study, passes=1)
    shown = []
    options = {"passes": 1, "out": tmp_path / "ray.h5", "engine": "openvino", "workers": 2}
    with caplog.at_level(logging.INFO, "cxrfeat"):
        done = run(study, ray=f"{cluster.address}?gpus=0.5", progress=lambda *told: shown.append(told), **options)
    assert content(done.path) == content(whole.path)
    assert done.failed == whole.failed and len(done.failed) == 1
    assert (done.extracted, done.images) == (23, 24)
    assert "Ray workers: 2, with 0 cores and 0.5 GPUs each; nodes: 2." in caplog.messages
    assert shown[0][:2] == (0, 24) and shown[-1][:2] == (24, 24) and "images/s" in shown[-1][2]
    assert done.engine.startswith("OpenVINO") and done.seconds.network > 0 and done.seconds.decode > 0
    with EmbeddingFile.open(done.path) as file:
        assert (file.provenance["workers"], file.provenance["nodes"]) == (2, 2)
    assert not done.path.with_name("ray.h5.parts").exists()
    assert run(study, ray=cluster.address, **options).extracted == 0  # the second time nothing starts


@pytest.fixture
def rows(make_study, tmp_path):
    """A study of 300 images, and an embedding file in which its labels can be found."""
    study, rng = make_study(300, size=8), np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((300, 12)) + study.y @ rng.standard_normal((2, 12)), 0).astype(np.float32)
    cxrfeat.cache.import_(x, tmp_path / "rows.h5", ids=study.ids.tolist(), backbone="ours").close()
    return study, tmp_path / "rows.h5"


def test_two_workers_find_the_head_that_one_machine_finds(in_sweeps, cluster, rows, tmp_path, monkeypatch):
    study, embeddings = rows
    options = {"weighting": "paper", "settings": {"tol": 1e-9}}
    alone = fit_head(study, embeddings, out=tmp_path / "alone", **options)
    monkeypatch.setattr(EmbeddingFile, "read", None)  # the driver reads no row to learn from
    there = fit_head(study, embeddings, out=tmp_path / "there", ray=cluster.address, **options)
    for one, other in zip(load_head(alone).linear, load_head(there).linear, strict=True):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-4 * np.abs(one).max())
    for label, objective in alone.notes["objective"].items():
        assert there.notes["objective"][label] == pytest.approx(objective, rel=1e-6)
    assert (there.notes["workers"], there.converged) == (2, True)
    with pytest.raises(HeadError, match="is fitted on one machine; leave `ray` out"):
        fit_head(study, embeddings, "svm", out=tmp_path / "svm", ray=cluster.address)


def test_a_worker_of_a_fit_that_is_lost_or_sees_another_file_is_told(cluster, rows, monkeypatch):
    study, path = rows
    with connection.connected(cluster.address) as module, EmbeddingFile(path) as file:
        taken = FileRows([file], [(0, np.arange(60)[None])])  # one block: one worker
        labels = Labels.of(study.y[:60], np.ones(2), np.ones(2))
        with closing(ClusterSums(module, taken, labels)) as sums:
            module.kill(sums.held[0])
            with pytest.raises(ClusterError, match="a worker of the cluster failed") as told:
                sums.survey(None)
        assert "\n" not in str(told.value)
        monkeypatch.setattr(EmbeddingFile, "content_sha256", "0" * 64)
        with pytest.raises(ClusterError, match=r"worker on .* has another content there than here"):
            ClusterSums(module, taken, labels)


@KILLS
def test_a_driver_a_worker_and_a_node_that_die_cost_their_batches(make_study, run, cluster, tmp_path):
    """One driver is killed and one is stopped; the third goes on from their shards and loses a worker and a node."""
    study = make_study(200, size=32)
    whole, out = run(study).path, tmp_path / "ray.h5"
    study.save(tmp_path / "study.csv")
    command = [sys.executable, "-m", "cxrfeat_cli.main", "extract", str(tmp_path / "study.csv"), "-o", str(out)]
    command += ["--weights", "random:0", "--size", "32", "--workers", "1", "--ray", cluster.address]
    parts, kept = out.with_name("ray.h5.parts"), 0
    for end in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while len(list(parts.glob("*.parquet"))) <= kept and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(end)
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode == (130 if end == signal.SIGINT else -end), said
        assert not out.exists(), "it finished before it could be stopped"
        kept = len(list(parts.glob("*.parquet")))
        assert kept
    assert "stopped. What was embedded is kept" in said and "Traceback" not in said
    deadline = time.monotonic() + 30
    while workers(cluster) and time.monotonic() < deadline:  # Ray ends what the job left
        time.sleep(0.05)
    assert not workers(cluster)
    events, shown = [], []

    def show(done, total, note=""):
        shown.append(done)
        if not events and done > shown[0] and (there := workers(cluster)):
            events.append("worker")
            os.kill(there[0], signal.SIGKILL)
        elif events == ["worker"] and done > shown[0] + (total - shown[0]) // 3:
            events.append("node")
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    done = run(study, ray=cluster.address, out=out, progress=show)
    assert events == ["worker", "node"]
    assert done.kept and done.extracted == 200 - done.kept and not done.failed
    assert content(out) == content(whole)


@KILLS
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(int(os.environ.get("CXRFEAT_KILLS", "12"))))
def test_whoever_is_killed_whenever(seed, make_study, run, cluster, tmp_path):
    """A worker, a node or the driver is killed at random instants until the file is there: the whole one."""
    rng, study, out = np.random.default_rng(seed), make_study(200, size=32), tmp_path / "ray.h5"
    whole = run(study).path
    study.save(tmp_path / "study.csv")
    command = [sys.executable, "-m", "cxrfeat_cli.main", "extract", str(tmp_path / "study.csv"), "-o", str(out)]
    command += ["--weights", "random:0", "--size", "32", "--ray", cluster.address]
    parts, kept = out.with_name("ray.h5.parts"), 0
    for _ in range(30):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for victim in rng.choice(["worker", "worker", "node", "driver"], 3):
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(2, 8))
            if process.poll() is not None:
                break
            if victim == "driver":
                process.kill()
            elif victim == "worker" and (there := workers(cluster)):
                os.kill(int(rng.choice(there)), signal.SIGKILL)
            elif victim == "node":
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
                cluster.add_node(**NODE)
        said = process.communicate(timeout=300)[1]
        assert "Traceback" not in said and process.returncode in (0, 2, -signal.SIGKILL), said
        if out.exists():
            break
        there = len(list(parts.glob("*.parquet")))
        assert there >= kept, "a shard is lost"
        kept = there
    assert content(out) == content(whole)


@pytest.fixture
def job(tmp_path):
    """A job without a cluster: what a worker does with it is called here."""
    recipe = make_recipe("densenet121", weights="random:0", size=32)
    with Writer.open(tmp_path / "a.h5", recipe, 1024, {}) as writer:
        yield Job(recipe, {}, "openvino", writer.shards(), {}, cores=1, gpus=0)


def answer(job, items=()):
    return pickle.loads(Worker(job)({"number": 0, "work": pickle.dumps(list(items))})["answer"])


def test_a_worker_that_cannot_do_its_part_is_named(job, make_study, tmp_path, monkeypatch):
    for name in ("LOKY_MAX_CPU_COUNT", "CUDA_VISIBLE_DEVICES"):  # which a worker sets
        monkeypatch.setenv(name, "")
    items = [Item("a", make_study(1).paths()[0], "a.png")]
    me = f"worker on {os.uname().nodename}, process {os.getpid()}: "

    class Full(disk.System):
        def write(self, *_):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "system", Full())
    full = answer(job, items)
    monkeypatch.undo()
    assert isinstance(full, ClusterError) and str(full).startswith(me) and "No space left" in str(full)
    assert not list((tmp_path / "a.h5.parts").iterdir()), "half a shard is left"
    fields = {name: getattr(job, name) for name in Job.__dataclass_fields__}
    lost = answer(Job(**fields | {"options": {"weights": "chest-net"}}))
    assert isinstance(lost, ClusterError) and str(lost).startswith(me) and "chest-net" in str(lost)
    (tmp_path / "a.h5.lock").unlink()
    gone = answer(job, items)
    assert isinstance(gone, ClusterError) and "must be on a disk that all nodes of the cluster share" in str(gone)
    bug = answer(job, [None])
    assert isinstance(bug, ClusterError) and str(bug).startswith(me)


def test_an_image_that_ends_every_process_is_found(monkeypatch):
    """Ray gives no answer for a batch that was lost; the rest of the batch is done."""
    items = [Item(f"i{k}", Path(f"{k}.png"), f"{k}.png") for k in range(700)]
    sizes = []

    def answers(ray, work, job, workers):
        for number, batch in enumerate(work):
            sizes.append(len(batch))
            ids = [item.image_id for item in batch]
            if "i300" not in ids:
                for _ in range(2):  # twice, as after the reconstruction of a lost answer
                    block = Block(ids, np.zeros((len(ids), 32), np.uint8), on_ray._no_embeddings(0), [], shard="s")
                    yield number, (block, {"engine": "e"})

    monkeypatch.setattr(on_ray, "_answers", answers)
    about = {}
    blocks = list(on_ray._blocks(None, items, None, 1, about))
    assert [i for block in blocks for i in block.image_ids] == [
        *(f"i{k}" for k in range(175)), *(f"i{k}" for k in range(350, 700)),
        *(f"i{k}" for k in (*range(175, 295), *range(305, 350))), *(f"i{k}" for k in range(295, 305) if k != 300),
    ]  # fmt: skip
    assert [(item.image_id, reason) for item, reason in blocks[-1].failures] == [
        ("i300", "ends every process that reads it.")
    ]
    assert max(sizes) == 175 and about == {"engine": "e"}
    with pytest.raises(ClusterError, match="every worker's process ended before its first batch did"):
        list(on_ray._blocks(None, [items[300]] * 3, None, 1, {}))


def test_what_is_asked_of_workers():
    assert Where.parse("head:6379?gpus=0.5&cpus=4") == Where("head:6379", 0.5, 4)
    assert Where.parse(True) == Where(True) and Where.parse("?cpus=2") == Where(True, None, 2)
    for wrong in ("head:6379?gpus=x", "head:6379?cores=4", "head:6379?cpus=0", "head:6379?gpus=nan", "head:6379?gpus"):
        with pytest.raises(ClusterError, match="must be ADDRESS or ADDRESS"):
            Where.parse(wrong)
    nodes = [{"CPU": 6.0}, {"CPU": 2.0}]
    assert on_ray._places(nodes, 0, None) == (2, 4)
    assert on_ray._places([{"CPU": 64.0}] * 3, 0, None) == (4, 48)
    assert on_ray._places(nodes, 0, 5) == (5, 1) and on_ray._places(nodes, 0, 8) == (8, 0)
    assert on_ray._places([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 8.0}], 0.5, None) == (0, 4)
    assert on_ray._places([{"CPU": 2.0, "GPU": 2.0}], 1, 1) == (1, 1)  # one core is left to prepare images
