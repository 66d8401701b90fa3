"""Check this machine: what works, what is missing, and how to fix it."""

from __future__ import annotations

import importlib
import locale
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cxrfeat import _html
from cxrfeat import _machine as machine
from cxrfeat import _sample as sample
from cxrfeat._backbones import backends, catalogue
from cxrfeat._recipe import DEFAULTS
from cxrfeat.errors import EngineError

SHOWN = ("keras", "tensorflow", "openvino", "onnx", "numpy", "scikit-learn", "h5py", "opencv-python-headless")
# What a distribution is imported as, where that is not its own name.
MODULES = {"scikit-learn": "sklearn", "opencv-python-headless": "cv2"}
LITTLE_DISK, NO_DISK = 2e9, 2e8


@dataclass(frozen=True)
class Check:
    """One thing checked.

    Attributes
    ----------
    name : str
        What it is about.
    state : {"ok", "warn", "fail"}
        `warn`: works, but less well than it could; `fail`: something will not work.
    found : str
        What was found.
    fix : str
        What to do; empty if nothing.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


class Checks(list[Check]):
    """Checks in a fixed order; prints as a table."""

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not any(check.state == "fail" for check in self)

    def __repr__(self) -> str:
        return "\n".join(f"{c.state:<5}{c.name}: {c.found}{f' -> {c.fix}' if c.fix else ''}" for c in self)

    def _repr_html_(self) -> str:
        return _html.page("cxrfeat doctor", None, [vars(check) for check in self])


def doctor(folder: str | Path = ".", *, deep: bool = False) -> Checks:
    """Check everything that cxrfeat needs on this machine.

    Parameters
    ----------
    folder : str or Path
        Where embedding files and runs will be written.
    deep : bool
        Import every package and ask Keras for its devices, which takes about ten seconds.

    Returns
    -------
    Checks
        A list; each check has `name`, `state` (`ok`, `warn`, `fail`), `found` and `fix`.

    Examples
    --------
    >>> import cxrfeat as cxr
    >>> checks = cxr.doctor()
    >>> checks.ok, checks[0].name
    (True, 'python')
    """
    checks = [_python(), *_packages(), *_extras()]
    checks.append(Check("processor", "ok", f"{machine.processor()}, {machine.cores()} cores for this process"))
    checks += _imports() if deep else []
    return Checks([*checks, _engine(deep), *_disk(Path(folder)), _cache(), *_weights(), _sample(), _locale()])


def _python() -> Check:
    where = f"{platform.system()} {platform.machine()}"
    found = f"{platform.python_implementation()} {platform.python_version()} on {where}"
    wanted = metadata.metadata("cxrfeat")["Requires-Python"]
    if SpecifierSet(wanted).contains(platform.python_version(), prereleases=True):
        return Check("python", "ok", found)
    return Check("python", "fail", found, f"make an environment with CPython {wanted}")


def requirements() -> Iterator[tuple[Requirement, str | None]]:
    """Each package that cxrfeat requires here, and the version that is installed; None if it is not installed."""
    for text in metadata.requires("cxrfeat") or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement, machine.versions([requirement.name]).get(requirement.name)


def _packages() -> Iterator[Check]:
    right = {}
    for requirement, version in requirements():
        if version is None and requirement.name == "tensorflow" and machine.versions(["jax", "torch"]):
            continue  # Keras runs on these too
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found = "not installed" if version is None else f"{version}, too old or too new"
            yield Check(requirement.name, "fail", found, f"pip install '{requirement.name}{requirement.specifier}'")
        else:
            right[requirement.name] = version
    shown = ", ".join(f"{name} {right[name]}" for name in SHOWN if name in right)
    yield Check("packages", "ok", f"{len(right)} as required: {shown}")


def _extras() -> Iterator[Check]:
    uses = {
        "dicom": ("reads DICOM files", "pydicom", "python-gdcm", "pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg"),
        "parquet": ("exports Parquet tables", "pyarrow"),
    }
    for extra, (use, package, *others) in uses.items():
        found = machine.versions([package, *others])
        what = f"{package} {found[package]}, {use}" if package in found else f"not installed; {use}"
        if package in found and (missing := [other for other in others if other not in found]):
            what += f"; no {', '.join(missing)}"
        whole = len(found) == len(others) + 1
        yield Check(f"extra {extra}", "ok", what, "" if whole else f"if wanted: pip install 'cxrfeat[{extra}]'")


def _imports() -> Iterator[Check]:
    broken = []
    for requirement, version in requirements():
        module = MODULES.get(requirement.name, requirement.name.replace("-", "_"))
        try:
            if version:
                backends.keras() if module == "keras" else importlib.import_module(module)
        except Exception as error:  # a broken installation may raise anything
            broken.append(module)
            fix = f"pip install --force-reinstall '{requirement.name}{requirement.specifier}'"
            yield Check(f"import {module}", "fail", f"{type(error).__name__}: {error}".splitlines()[0], fix)
    if not broken:
        yield Check("imports", "ok", "every required package can be imported")


def _engine(deep: bool) -> Check:
    likely, default = machine.gpu_likely(), "the default is openvino"
    if not deep and not likely:
        return Check("engine", "ok", f"no GPU; {default}")
    if not deep:
        return Check("engine", "ok", "a GPU's driver is loaded; Keras is asked for it when work begins",
                     "`cxrfeat doctor --deep` asks it now")  # fmt: skip
    from cxrfeat._backbones import keras_engine

    try:
        gpus, name = keras_engine.gpus(), f"Keras on {backends.version()}"
    except EngineError as error:
        return Check("engine", "fail", str(error))
    if gpus:
        return Check("engine", "ok", f"{name} sees {gpus} GPU{'s' * (gpus > 1)} and is the default")
    if likely:
        fix = f"{backends.backend().install}, or KERAS_BACKEND names another"
        return Check("engine", "warn", f"a GPU's driver is loaded, but {name} sees no GPU", fix)
    return Check("engine", "ok", f"{name} sees no GPU; {default}")


def _disk(folder: Path) -> Iterator[Check]:
    for name, place in (("disk here", folder), ("disk of the cache", machine.cache_folder())):
        place = place.absolute()
        free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
        state: Literal["ok", "warn", "fail"] = "ok" if free > LITTLE_DISK else "warn" if free > NO_DISK else "fail"
        # The embeddings of 112,120 images, one pass of 1,024 float32, are 460 MB.
        yield Check(name, state, f"{free / 1e9:.1f} GB free", "" if state == "ok" else "make room or move elsewhere")


def _cache() -> Check:
    place = machine.cache_folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        fix = "make it writable, or name another folder in the environment variable CXRFEAT_CACHE"
        return Check("cache folder", "fail", f"{place} cannot be written ({error.strerror or error})", fix)
    return Check("cache folder", "ok", f"{place} can be written")


def _weights() -> Iterator[Check]:
    """All weights that are here, and the default backbone's where they are missing."""
    for row in catalogue.rows():
        name, fetch = f"weights {row['weights']}", f"cxrfeat weights fetch {row['weights']}"
        if row["state"] == "ok":
            yield Check(name, "ok", f"{row['trained_on']}, {row['file']}")
        elif row["state"] == "damaged":
            fix = f"cxrfeat weights remove {row['weights']} --yes, then fetch or import them again"
            yield Check(name, "fail", f"{row['file']} in {row['folder']} is damaged", fix)
        elif row["weights"] == DEFAULTS["backbone"]:
            fix = f"{fetch}; without internet, copy {row['file']} into {row['folder']}"
            yield Check(name, "warn", "ImageNet weights are not here; they are fetched when first needed", fix)


def _sample() -> Check:
    absent = sum(not path.is_file() for path in sample.study().paths())
    if absent:
        return Check("sample", "fail", f"{absent} of its images are missing", "install cxrfeat again")
    return Check("sample", "ok", "150 images, whole")


def _locale() -> Check:
    encoding = locale.getpreferredencoding(False)
    if encoding.lower().replace("-", "") == "utf8":
        return Check("locale", "ok", encoding)
    return Check("locale", "warn", f"{encoding}: names with other letters may be garbled", "set PYTHONUTF8=1")
