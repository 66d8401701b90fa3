"""What an embedding file keeps of each session that computed some of it; no place on the machine is named."""

from __future__ import annotations

import datetime
import os
import platform
from typing import Any

from cxrfeat import __version__

PACKAGES = ("numpy", "opencv-python-headless", "openvino", "tensorflow", "keras", "h5py")


def session() -> dict[str, Any]:
    """Versions, kind of machine and time; the engine is added once it is known."""
    from importlib.metadata import PackageNotFoundError, version  # not above: with nothing to do it is not needed

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "cxrfeat": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": versions,
        "cores": os.cpu_count(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
