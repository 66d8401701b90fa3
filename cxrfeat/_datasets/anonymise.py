"""Patients and studies under hashes instead of names, the same in every study of one salt."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re

import pandas as pd

from cxrfeat.errors import StudyError

_log = logging.getLogger(__name__)

PUBLIC = "cxrfeat"
"""The salt where none is given: no secret."""

_IDS = (
    "patientid", "studyid", "subjectid", "studyinstanceuid", "seriesinstanceuid", "sopinstanceuid", "accessionnumber"
)  # fmt: skip
"""Columns that identify a patient or a study, in small letters without anything else."""


def hashed(value: str, salt: str) -> str:
    """The first 16 hexadecimal digits of HMAC-SHA256 of an id, with the salt as key; an empty id stays empty."""
    return hmac.new(salt.encode(), value.encode(), hashlib.sha256).hexdigest()[:16] if value else ""


def anonymised(table: pd.DataFrame, salt: str | None, always: bool = False) -> tuple[pd.DataFrame, dict[str, str]]:
    """A study's table with the ids of patients and studies hashed, and what tells its salt from others, but not it.

    Without a salt nothing is hashed, or `always` without a secret. A warning says where ids are left in names of files.
    """
    if salt is None and not always:
        return table, {}
    if salt == "":
        raise StudyError("`anonymise` needs a salt: a secret text, the same for all studies that share patients.")
    salt = PUBLIC if salt is None else salt
    patients = table["patient_id"].unique().tolist()
    named = re.compile("|".join(re.escape(patient) for patient in patients[:1000] if len(patient) > 3) or r"(?!)")
    for column in ("image_id", "path"):
        if left := int(table[column].head(1000).str.contains(named).sum()):
            _log.warning(
                "%d of the first %d cells of `%s` still hold a patient's id: rename the files to hide it there too.",
                left, min(len(table), 1000), column,
            )  # fmt: skip
    table = table.copy()
    for column in table.columns[[re.sub(r"[^a-z]", "", str(name).lower()) in _IDS for name in table]]:
        table[column] = [hashed(str(one), salt) for one in table[column]]
    return table, {"anonymised": hashed("cxrfeat", salt)}
