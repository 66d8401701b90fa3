"""COVID-19 image data collection: `metadata.csv`, with findings as paths from the general to the special."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from cxrfeat._datasets.dataset import Dataset
from cxrfeat._datasets.release import cells_of, image_folder, known_by, one_table
from cxrfeat._labels import NO_FINDING, canonical
from cxrfeat.errors import StudyError

_log = logging.getLogger(__name__)

TABLES = ("metadata.csv",)

_NEEDED = ("finding", "view", "filename")
_MORE = ("patientid", "Patientid", "sex", "age", "modality", "folder")
_RAYS = ("PA", "AP", "AP Supine", "APS", "L", "AP semi erect", "AP erect")

KINDS = {
    "Viral": ("COVID-19", "SARS", "MERS-CoV", "MERS", "Influenza", "H1N1", "Varicella", "Herpes"),
    "Bacterial": (
        "Streptococcus", "Klebsiella", "E.Coli", "Legionella", "Mycoplasma", "Chlamydophila", "Nocardia",
        "Staphylococcus", "MRSA", "Mycoplasma Bacterial Pneumonia",
    ),
    "Fungal": ("Pneumocystis", "Aspergillosis"),
}  # fmt: skip
"""Kinds of pneumonia: older versions of the table name the special one alone."""

_ABOVE = {kind: parent for parent, kinds in KINDS.items() for kind in kinds}
_ABOVE |= dict.fromkeys([*KINDS, "Lipoid", "Aspiration"], "Pneumonia") | {"MRSA": "Staphylococcus"}
_UNKNOWN = {"", "todo", "unknown"}


def read(source: Path, images: Path | None = None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the X-rays of the table; CT is left out, and so is the second row of a film that is there twice.

    `Pneumonia/Viral/COVID-19` is a positive of all three. What is under a finding that was not made more precise is
    unknown. A row without a patient is a patient of its own.
    """
    path = one_table(source, TABLES, _NEEDED)
    raw = cells_of(path, _NEEDED, _MORE).rename(columns={"Patientid": "patientid"})
    raw = raw.apply(lambda column: column.fillna("").str.strip())
    kept = (raw["modality"] == "X-ray") if "modality" in raw else raw["view"].isin(_RAYS)
    twice = kept & raw["filename"].where(kept).duplicated()
    for what, count in {"no X-rays": int((~kept).sum()), "of a film that an earlier row has": int(twice.sum())}.items():
        if count:
            _log.info("%s: %d rows are left out: %s.", path, count, what)
    raw = raw[kept & ~twice]
    if raw.empty:
        raise StudyError(f"{path} has no X-rays.")
    folder = image_folder(source, images)
    below = raw["folder"] + "/" if "folder" in raw and images is None else "images/" if images is None else ""
    table = raw.rename(columns={"filename": "image_id"}).drop(columns="finding")
    table["path"] = f"{folder.absolute()}/" + below + raw["filename"]
    patient = raw.get("patientid", pd.Series("", index=raw.index))
    table["patient_id"] = patient.mask(patient == "", "image " + raw["filename"])
    findings = _findings(raw["finding"])
    return pd.concat([table, findings], axis=1), tuple(findings.columns)


DATASET = Dataset(
    title="the COVID-19 image data collection",
    recognises=known_by(TABLES, _NEEDED),
    read=read,
    get="`git clone https://github.com/ieee8023/covid-chestxray-dataset` (600 MB).",
    licence="Each image has a licence of its own, in the column `license` of `metadata.csv`: mostly CC BY-NC-SA, also "
    "CC BY, CC0 and others; that of the table is CC BY-NC-SA 4.0.",
    citation="Cohen JP, Morrison P, Dao L, Roth K, Duong TQ, Ghassemi M. COVID-19 image data collection: prospective "
    "predictions are the future. Machine Learning for Biomedical Imaging 2020; 2020:002.",
    traps=(
        "The images are from papers and web pages, of all sizes and some with arrows and letters. Whether a film is of "
        "COVID-19 can be told from such things: look at `cxrfeat study describe covid` first.",
        "Nearly all films are of pneumonia, and few are normal. Do not add normal films of another source: a "
        "classifier then learns where films come from.",
        "CT slices and volumes are left out. One file may be in two rows, as of two patients: the first counts.",
        "`Pneumonia` alone leaves its kinds unknown. `todo` and `Unknown` leave all unknown.",
        "The collection has grown for months: two clones may differ. `study describe` counts what you have.",
    ),
    command="cxrfeat study build covid-chestxray-dataset --missing skip -o studies/covid.csv",
)


def _chain(finding: str) -> list[str]:
    """A finding and all above it, the most general first."""
    name = finding.removesuffix(" Bacterial Pneumonia")
    above = _ABOVE.get(finding) or _ABOVE.get(name)
    return [*(_chain(above) if above else ()), name]


def _findings(cells: pd.Series) -> pd.DataFrame:
    """One column per finding, under its name in the last part of its path: 1, 0, or NaN."""
    codes, texts = pd.factorize(cells)
    silent = [text.lower() in _UNKNOWN for text in texts]
    named: list[set[str]] = []
    for text, nothing in zip(texts, silent, strict=True):
        parts = [] if nothing else [part.strip() for part in text.replace(",", "/").split("/")]
        named.append({name for part in filter(None, parts) for name in _chain(part)} - {NO_FINDING})
    order = sorted(set().union(*named))
    parents = {name: {*_chain(name)[:-1]} for name in order}
    for text in map(str, texts):  # and what the table itself puts above another
        parts = [part.strip() for part in text.split("/")]
        for k, part in enumerate(parts):
            parents.setdefault(part, set()).update(parts[:k])
    vague = [found.difference(*(parents[name] for name in found)) for found in named]  # not made more precise
    columns = {}
    for label in order:
        there = [label in found for found in named]
        unknown = [nothing or bool(parents[label] & general) for nothing, general in zip(silent, vague, strict=True)]
        columns[_TITLES.get(label) or canonical(label)] = np.select([there, unknown], [1.0, np.nan], 0.0)[codes]
    return pd.DataFrame(columns, index=cells.index)


_TITLES = {kind: f"{kind} Pneumonia" for kind in (*KINDS, "Lipoid", "Aspiration")}
