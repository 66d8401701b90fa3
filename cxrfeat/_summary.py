"""What a study holds, counted: images, patients and positives by split and label, and how alike the splits are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxrfeat import _html as html

if TYPE_CHECKING:
    from cxrfeat._study import Study

_DECISIONS = ("uncertain", "unmentioned", "readers", "one_per")

UNLIKE = 4.0
"""Standard errors over patients beyond which a split is reported as unlike the whole."""


@dataclass(frozen=True, repr=False)
class Summary:
    """Counts of a study, by split and under `all`: `positives` by label, `balance` by what splits should be alike in.

    Images without a split count under `all` only. `unknown` leaves out labels that are known everywhere, `no_finding`
    counts images with every label known and none present. `unlike` names splits that differ from the whole by more than
    random patients would; `origin` is where the splits come from, empty if that is not known. `published` says how the
    counts differ from those that were published of the dataset. `soft` counts unknown labels that are probabilities,
    `decided` says what options made of the dataset's labels and rows.
    """

    name: str
    images: Mapping[str, int]
    patients: Mapping[str, int]
    positives: Mapping[str, Mapping[str, int]]
    unknown: Mapping[str, int]
    no_finding: Mapping[str, int]
    balance: Mapping[str, Mapping[str, float]]
    unlike: tuple[str, ...] = ()
    origin: str = ""
    published: str = ""
    soft: Mapping[str, int] = field(default_factory=dict)
    decided: str = ""

    def __repr__(self) -> str:
        lines = [f"study {self.name}"]
        for rows in self.tables().values():
            lines.append(" " * 24 + "".join(f"{name:>10}" for name in list(rows[0])[1:]))
            lines += [f"{next(iter(r.values())):24}" + "".join(f"{c:>10}" for c in [*r.values()][1:]) for r in rows]
        return "\n".join([*lines, *self.notes()])

    def _repr_html_(self) -> str:
        tables = [html.page(title[0].upper() + title[1:], {}, rows) for title, rows in self.tables().items()]
        return "\n".join([*tables, *map(html.page, self.notes())])

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits, without `all`."""
        return tuple(s for s in self.images if s != "all")

    def leakage(self) -> str:
        """The leakage check in words. A study with a leak cannot be made, so what can be summarised has none."""
        if len(self.splits) < 2:
            return "leakage check: nothing to check, the study has fewer than two splits"
        if self.patients["all"] == self.images["all"]:
            return (
                "leakage check: NOTHING CHECKED, every image has a patient of its own. If these are no patient ids but "
                "names of images, two images of one patient may be in two splits, and test results too high"
            )
        return f"leakage check: passed, no patient is in two of the splits {', '.join(self.splits)}"

    def notes(self) -> list[str]:
        """What the counts do not show: unknown labels, where splits come from and differ, and the leakage check."""
        soft = {label: f", {n:,} of them with a probability" for label, n in self.soft.items()}
        unknown = [f"{label}: unknown for {n:,} images{soft.get(label, '')}" for label, n in self.unknown.items()]
        origin = [f"splits: {self.origin}"] if self.origin else []
        return [*unknown, *filter(None, [self.decided, *origin, self.published]), *self.unlike, self.leakage()]

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows by title: images and patients of each split, images with each label, and the splits compared."""
        splits = [{"split": s, "images": n, "patients": self.patients[s]} for s, n in self.images.items()]
        compared = [{"splits compared": what, **{s: _form(what, v[s]) for s in v}} for what, v in self.balance.items()]
        found = {f"study {self.name}": splits, "images with each label": self.rows(), "splits compared": compared}
        return {title: rows for title, rows in found.items() if rows}

    def rows(self) -> list[dict[str, Any]]:
        """One row per label for a table: its name, positives in all, share of the images, positives per split."""
        total = self.images["all"]
        counts = {**self.positives, "(no finding)": self.no_finding} if self.positives else {}
        return [
            {"label": label, "positive": n["all"], "share": f"{n['all'] / total:.1%}"} | {s: n[s] for s in self.splits}
            for label, n in counts.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**asdict(self), "leaking_patients": 0, "leakage_check": self.leakage()}


def summarise(study: Study) -> Summary:
    """Count a study's images, patients and positives per label and split, and compare the splits."""
    split = study.table["split"].to_numpy(dtype=str)
    masks = {"all": np.ones(len(study), dtype=bool)} | {s: split == s for s in study.splits}
    y = study.y
    who, unit = np.unique(study.patients, return_inverse=True)
    unknown = np.isnan(y).sum(axis=0)
    soft = unknown - np.isnan(study.targets).sum(axis=0)
    values = _covariates(study) | {"images per patient": np.ones(len(study))}
    balance: dict[str, dict[str, float]] = {}
    unlike, how = [], dict(study.provenance.get("splits", {}))
    for what, value in reversed(values.items()):
        known = ~np.isnan(value)
        # A mean over images, but for the images themselves, which are counted per patient.
        per = np.bincount(unit[known]) > 0 if what == "images per patient" else np.bincount(unit[known])
        per, total = per.astype(float), np.bincount(unit[known], value[known])
        mean = total.sum() / per.sum()
        error = np.sqrt(((total - mean * per) ** 2).sum()) / per.sum()
        balance[what] = {}
        for s, mask in masks.items():
            mine = np.isin(np.arange(len(per)), unit[mask])
            balance[what][s] = float(total[mine].sum() / per[mine].sum()) if per[mine].any() else float("nan")
            share = mine.sum() / len(who)
            if share and abs(balance[what][s] - mean) > UNLIKE * error * np.sqrt((1 - share) / share) > 0:
                unlike.append(
                    f"split {s} is unlike the whole study: {what} {_form(what, balance[what][s])}, in all "
                    f"{_form(what, mean)}, more than random patients would differ"
                )
    return Summary(
        name=study.name,
        images={s: int(m.sum()) for s, m in masks.items()},
        patients={s: len(np.unique(unit[m])) for s, m in masks.items()},
        positives={
            label: {s: int((y[m, j] == 1).sum()) for s, m in masks.items()} for j, label in enumerate(study.labels)
        },
        unknown={label: int(n) for label, n in zip(study.labels, unknown, strict=True) if n},
        no_finding={s: int((y[m] == 0).all(axis=1).sum()) for s, m in masks.items()},
        balance=balance,
        unlike=tuple(unlike),
        origin=", ".join([how.pop("origin", ""), *(f"{key} {value}" for key, value in how.items())]),
        published=_published(study),
        decided="; ".join(f"{key}: {_said(study.provenance[key])}" for key in _DECISIONS if key in study.provenance),
        soft={label: int(n) for label, n in zip(study.labels, soft, strict=True) if n},
    )


def _said(value: Any) -> str:
    return ", ".join(f"{key} {text}" for key, text in value.items()) if isinstance(value, Mapping) else str(value)


def _published(study: Study) -> str:
    """How a study differs from the counts that were published of its dataset; splits count only if they are its own."""
    counts = dict(study.provenance.get("published", {}))
    if not counts:
        return ""
    by, own = counts.pop("by", ""), study.provenance.get("splits", {}).get("origin", "").startswith("as published")
    split, y = study.table["split"].to_numpy(dtype=str), study.y
    here = {"images": len(study), "patients": len(set(study.patients))}
    here |= {f"images in {s}": int((split == s).sum()) for s in ("train", "val", "test")} if own else {}
    here |= {label: int((y[:, j] == 1).sum()) for j, label in enumerate(study.labels)}
    differ = [f"{what} {here[what]:,} of {n:,}" for what, n in counts.items() if what in here and here[what] != n]
    if not differ:
        return f"published counts: all {len(here.keys() & counts.keys())} agree (those of {by})"
    return f"published counts: {'; '.join(differ)} (those of {by})"


def _covariates(study: Study) -> dict[str, npt.NDArray[np.float64]]:
    """What splits should be alike in, a value per image: of views and sexes all but the most frequent, as shares."""
    found = {}
    for column in ("follow_up", "age"):
        if column in study.table and study.table[column].notna().any():
            found[f"{column.replace('_', '-')}, mean"] = study.table[column].to_numpy(dtype=float)
    for column in ("sex", "view"):
        if column in study.table:
            cells = study.table[column]
            for value in cells[cells != ""].value_counts().index[1:4]:
                found[f"{column} {value}"] = np.where(cells == "", np.nan, cells == value)
    return found


def _form(what: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.1%}" if what.startswith(("view ", "sex ")) else f"{value:.2f}"
