"""An extraction on a cluster gives the file of a single machine, whoever is killed, and does nothing twice."""

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from cxrfeat._extract import make_recipe, on_ray
from cxrfeat._extract.on_ray import Job, Where, Worker
from cxrfeat._extract.pipeline import Block, Item
from cxrfeat._store import EmbeddingFile, Writer, disk
from cxrfeat.errors import ClusterError

pytest.importorskip("ray")
pytest.importorskip("pyarrow")
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
NODE = {"num_cpus": 1, "num_gpus": 1, "include_dashboard": False, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster(own_cache):
    """Two nodes of one core and one GPU, which are none, and a head without."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
    started = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        started.add_node(**NODE)
    yield started
    started.shutdown()


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
    return [pid for node in cluster.worker_nodes for pid in children(raylet(node), "MapWorker")]


def raylet(node):
    return node.all_processes["raylet"][0].process.pid


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


def test_a_worker_and_a_node_that_die_cost_their_batches(make_study, run, cluster, tmp_path):
    study = make_study(96, size=32)
    whole = run(study).path
    events = []

    def show(done, total, note=""):
        if done and not events:
            events.append("worker")
            os.kill(workers(cluster)[0], signal.SIGKILL)
        elif done > total // 3 and len(events) == 1:
            events.append("node")
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    try:
        done = run(study, ray=cluster.address, out=tmp_path / "ray.h5", progress=show)
    finally:
        if len(events) == 2:
            cluster.add_node(**NODE)
    assert events == ["worker", "node"]
    assert content(done.path) == content(whole) and not done.failed
    assert done.extracted == 96


def test_a_driver_that_dies_or_is_stopped_keeps_the_shards(make_study, run, cluster, tmp_path):
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
            time.sleep(0.005)
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
    done = run(study, ray=cluster.address, out=out, workers=1)
    assert done.kept and done.extracted == 200 - done.kept
    assert content(out) == content(whole)


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
