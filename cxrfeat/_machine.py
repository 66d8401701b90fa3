"""Cores that this process may use, a GPU, a folder for what can be computed again."""

from __future__ import annotations

import logging
import os
import platform
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def cores() -> int:
    """Number of cores that this process may use: affinity and container quota counted, at least 1."""
    from joblib import cpu_count

    return int(cpu_count())


def gpu_likely() -> bool:
    """Whether there is a driver of a GPU, so that asking TensorFlow is worth its seven seconds of import."""
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
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, "") or platform.processor() or platform.machine()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    from importlib import metadata

    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
