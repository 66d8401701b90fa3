"""Tables of results as rows, CSV, JSON, LaTeX and Markdown, each with a title that says what it stands on."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxrfeat._evaluate import delong
from cxrfeat._evaluate.bootstrap import METRICS
from cxrfeat.errors import EvaluationError

if TYPE_CHECKING:
    from cxrfeat._evaluate import Evaluation
    from cxrfeat._evaluate.scored import Scored

Row = dict[str, Any]

RANDOM = "RANDOM WEIGHTS: NOT A RESULT."
HEADINGS = {
    "label": "label",
    "n": "n",
    "positives": "n+",
    "auroc": "AUROC",
    "auroc_delong": "DeLong 95 %",
    "auroc_bootstrap": "patients 95 %",
    "average_precision": "AP",
    "prevalence": "prev.",
    "sensitivity": "sens.",
    "specificity": "spec.",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "brier": "Brier",
    "ece": "ECE",
}
"""Columns of the tables that people read, in order; `n` where it is not the same for all labels."""


def auroc_rows(scored: Scored) -> list[Row]:
    """One row per label (n, positives, AUROC and its DeLong interval) and one for their mean."""
    rows: list[Row] = []
    for j, (label, at) in enumerate(zip(scored.labels, delong.intervals(scored.y, scored.p), strict=True)):
        known = int((~np.isnan(scored.y[:, j])).sum())
        row = {"label": label, "n": known, "positives": int(scored.positives[j]), "auroc": at.value}
        rows.append({**row, "auroc_delong": [at.low, at.high]})
    values = np.array([row["auroc"] for row in rows])
    over = int((~np.isnan(values)).sum())
    macro = float(np.nanmean(values)) if over else float("nan")
    rows.append({"label": f"macro over {over}", "n": len(scored), "positives": None, "auroc": macro})
    return rows


def rows_to_read(evaluation: Evaluation, rows: Sequence[Row] | None = None) -> list[Row]:
    """The columns of `HEADINGS`, with intervals as text, for the rows of an evaluation or of one of its groups."""
    rows = rows if rows is not None else evaluation.rows
    # The title has n where it is the same for all; without a bootstrap there is nothing to show.
    left_out = set() if len({row["n"] for row in rows[:-2]}) > 1 else {"n"}
    left_out |= set() if evaluation.replicates else {"auroc_bootstrap"}
    found = []
    for row in rows:
        name = row["label"] + (f" over {len(row['over'])}" if "over" in row else "")
        short = {key: row.get(key) for key in HEADINGS if key not in left_out}
        found.append(heads(flat({**short, "label": name}, 3)))
    return found


def group_rows(evaluation: Evaluation) -> list[Row]:
    """One row per group: images, patients, macro AUROC and interval, labels it runs over, AUROC of the group alone."""
    rows = []
    for group in evaluation.groups:
        macro = group.rows[-2]
        alone = np.array(list(evaluation.alone[group.column].values()))
        row = {
            "group": f"{group.column} {group.name}",
            "n": len(group.scored),
            "patients": macro["patients"],
            "macro AUROC": macro["auroc"],
            "patients 95 %": span_text(macro.get("auroc_bootstrap", (math.nan, math.nan))),
            "over": len(macro["over"]),
            "AP": macro["average_precision"],
            "prev.": macro["prevalence"],
            "group alone": float(np.nanmean(alone)) if not np.isnan(alone).all() else math.nan,
        }
        rows.append(row)
    return rows


def flat(row: Mapping[str, Any], digits: int = 3) -> Row:
    """Return a row with its intervals as text, for people."""
    return {key: span_text(value, digits) if isinstance(value, list | tuple) else value for key, value in row.items()}


def heads(row: Mapping[str, Any]) -> Row:
    """Return a row under the headings that people read."""
    return {HEADINGS.get(key, key): value for key, value in row.items()}


def span_text(ends: Sequence[float], digits: int = 3) -> str:
    """Return an interval as `0.712 to 0.803`, or a dash where it is not defined."""
    low, high = ends
    return "-" if math.isnan(low) or math.isnan(high) else f"{low:.{digits}f} to {high:.{digits}f}"


def title(what: str, scored: Scored) -> str:
    """Return a table's title: what it is, what it stands on, and loudly if that is random weights."""
    stamp = f"{RANDOM} " if scored.random else ""
    unfair = " ".join(scored.standing.get("not_fair", []))
    return f"{stamp}{what}; {scored.caption()}.{' NOT A FAIR TEST: ' + unfair if unfair else ''}"


def accuracy_line(evaluation: Evaluation) -> str:
    """The reference paper's accuracy beside its baseline, in a sentence."""
    found = evaluation.accuracy
    return (
        f"accuracy (correct labels over images and labels): {found['at_half']:.3f} at 0.5, "
        f"{found['at_thresholds']:.3f} at the stored thresholds "
        f"({evaluation.scored.standing.get('thresholds', 'given')}); "
        f"calling everything absent: {found['all_negative_baseline']:.3f}."
    )


def to_csv(evaluation: Evaluation) -> str:
    """Every row of the evaluation and its groups with every number, intervals in columns of their own."""
    rows = [{"group": "", **row} for row in evaluation.rows]
    for group in evaluation.groups:
        rows += [{"group": f"{group.column}={group.name}", **row} for row in group.rows]
    stands = evaluation.scored.stands_on()
    about = {key: stands.get(key) for key in ("run", "split", "study", "head", "random_weights")}
    return csv_text([{**ends(row), **about} for row in rows])


def to_json(evaluation: Evaluation) -> str:
    """`Evaluation.to_dict` as JSON text, NaN as null."""
    return json_text(evaluation.to_dict())


def to_latex(evaluation: Evaluation) -> str:
    """A `table` environment for booktabs, to paste into a paper."""
    return latex(rows_to_read(evaluation), _caption(evaluation), f"tab:{evaluation.scored.name or 'evaluation'}")


def to_markdown(evaluation: Evaluation) -> str:
    """A table in Markdown, the caption above it, groups and warnings below."""
    parts = [_caption(evaluation), markdown(rows_to_read(evaluation))]
    if evaluation.groups:
        parts.append(markdown(group_rows(evaluation)))
    parts += [f"- warning: {warning.message}" for warning in evaluation.warnings]
    return "\n\n".join(parts) + "\n"


FORMATS: dict[str, Callable[[Evaluation], str]] = {
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
    "markdown": to_markdown,
}


def render(evaluation: Evaluation, kind: str) -> str:
    """Return the evaluation as text in one of `FORMATS`.

    Raises
    ------
    EvaluationError
        If there is no such format.
    """
    if kind not in FORMATS:
        raise EvaluationError(f"there is no table format {kind!r}; there are {', '.join(FORMATS)}.")
    return FORMATS[kind](evaluation)


def markdown(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table, numbers to the right."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |"]
    lines.append("|" + "|".join("---:" if _is_number(rows, c) else "---" for c in columns) + "|")
    lines += ["| " + " | ".join(cell(row.get(c)).replace("|", "\\|") for c in columns) + " |" for row in rows]
    return "\n".join(lines)


def latex(rows: Sequence[Row], caption: str, label: str) -> str:
    """Rows as a LaTeX table."""
    columns = list(rows[0])
    shape = "".join("r" if _is_number(rows, c) else "l" for c in columns)
    body = [" & ".join(_tex(cell(row.get(c))) for c in columns) + r" \\" for row in rows]
    # The last two rows are macro and micro, or the table has no rule more.
    rule = [r"\midrule"] if len(body) > 2 and str(rows[-1].get("label")) == "micro" else []
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_tex(caption)}}}", rf"\label{{{label}}}", r"\small"]
    lines += [rf"\begin{{tabular}}{{{shape}}}", r"\toprule", " & ".join(_tex(c) for c in columns) + r" \\", r"\midrule"]
    lines += [*(body[:-2] if rule else body), *rule, *(body[-2:] if rule else [])]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def cell(value: Any, digits: int = 3) -> str:
    """Return a value as it is printed: a dash for what is not defined."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _caption(evaluation: Evaluation) -> str:
    draws = (
        f", patients by {evaluation.replicates:,} patient-cluster bootstrap replicates" if evaluation.replicates else ""
    )
    what = f"Intervals are 95 %: DeLong{draws}. {accuracy_line(evaluation).capitalize()}"
    return f"{title('Metrics per label', evaluation.scored)} {what}"


def json_text(value: Any) -> str:
    """Numbers as JSON text, NaN as null, since JSON has no NaN."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def ends(row: Mapping[str, Any]) -> Row:
    """Intervals as two columns, lists of labels as their number."""
    out: Row = {}
    for key, value in row.items():
        if key == "over":
            out[key] = len(value)
        elif isinstance(value, list | tuple):
            out[f"{key}_low"], out[f"{key}_high"] = value
        else:
            out[key] = value
    return out


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, every key a column; the same columns first in every table."""
    buffer = io.StringIO()
    table = pd.DataFrame(rows)
    first = [
        c for c in ("group", "label", "n", "positives", "patients", "prevalence", "threshold", *METRICS) if c in table
    ]
    rest = [c for c in table if c not in first]
    table[[*first, *rest]].to_csv(buffer, index=False, float_format="%.6g", lineterminator="\n")
    return buffer.getvalue()


def _is_number(rows: Sequence[Row], column: str) -> bool:
    return any(isinstance(row.get(column), int | float) for row in rows)


def _tex(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, r"\textbackslash{}" if character == "\\" else f"\\{character}")
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
