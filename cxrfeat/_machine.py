"""Cores that this process may use, a GPU, a folder for what can be computed again."""

from __future__ import annotations

import logging
import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def cores() -> int:
    """Number of cores that this process may use: affinity and container quota counted, at least 1."""
    from joblib import cpu_count

    return int(cpu_count())


def memory() -> int:
    """Bytes of memory that this process may still take: what the machine has free, and the container's limit."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        limits.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))
    except (OSError, StopIteration, ValueError):  # not Linux: half of what there is, since what is free is not told
        with suppress(AttributeError, ValueError, OSError):
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    limits += [limit - used for limit, used in map(_cgroup, _CGROUPS) if limit]
    return max(min(limits, default=4 << 30), 1)


# Limit, use, and statistics of the group this process is in, as a container sees them: version 2 and version 1.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
     "/sys/fs/cgroup/memory/memory.stat"),
)  # fmt: skip


def _cgroup(places: tuple[str, str, str]) -> tuple[int, int]:
    """Limit and use of a group in bytes, files that could be read again not counted; 0 if there is no limit."""
    try:
        limit, used, stat = (Path(place).read_text(encoding="ascii") for place in places)
        counts = dict(line.split() for line in stat.splitlines())
        return int(limit), int(used) - int(counts.get("inactive_file", 0))
    except (OSError, ValueError):  # "max", or another system
        return 0, 0


def give_back() -> None:
    """Return memory that is free to the system: Arrow, in which pandas holds texts if it is there, keeps its own."""
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()


def gpu_likely() -> bool:
    """Whether there is a driver of a GPU, so that asking Keras's backend is worth its seconds of import."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1", "none"):
        return False
    return any(
        Path(place).exists() for place in ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/kfd", "/dev/dxg")
    )


def cache_folder() -> Path:
    """Folder for exported networks; `CXRFEAT_CACHE` names another."""
    named = os.environ.get("CXRFEAT_CACHE")
    return Path(named) if named else _own_cache_folder()


@lru_cache(maxsize=1)
def _own_cache_folder() -> Path:
    from platformdirs import user_cache_path

    usual = user_cache_path("cxrfeat", appauthor=False)
    try:
        if not usual.is_absolute():  # there is no home
            raise NotADirectoryError(str(usual))
        usual.mkdir(parents=True, exist_ok=True)
        return usual
    except OSError:  # a container that runs as another user
        spare = Path(tempfile.gettempdir()) / f"cxrfeat-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        spare.mkdir(mode=0o700, exist_ok=True)
        if hasattr(os, "getuid") and spare.stat().st_uid != os.getuid():  # what is kept is run: never another user's
            spare = Path(tempfile.mkdtemp(prefix="cxrfeat-"))
        _log.warning(
            "%s cannot be written: exported networks are kept in %s. CXRFEAT_CACHE names another.", usual, spare
        )
        return spare


@lru_cache(maxsize=1)
def processor() -> str:
    """The processor's name, for provenance."""
    lines: list[str] = []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, "") or platform.processor() or platform.machine()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    from importlib import metadata

    found = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
