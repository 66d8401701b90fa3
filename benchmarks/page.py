"""Write docs/performance.md from the results of the benchmarks in results/."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
# In the order of the pipeline; the others follow by name.
ORDER = [
    "extraction",
    "precision_price",
    "network",
    "gpu",
    "keras_backends",
    "bound",
    "growth",
    "passes",
    "decoders",
    "memory",
    "startup",
    "store_read",
    "store_formats",
    "head_logistic",
    "evaluate_delong",
    "evaluate_bootstrap",
]
HEAD = """# Performance

Written by `make bench` from `benchmarks/results/`; do not edit. Each section is one script of `benchmarks/`, which runs
cxrfeat and the peer alternately in one session. Compare ratios and medians; absolute times say little, because the
machines are shared.{gpu}
"""
NO_GPU = " There are no figures for a GPU, because none has been measured."


def cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def section(result: dict) -> str:
    columns = list(dict.fromkeys(key for row in result["rows"] for key in row))
    lines = [f"## {result['name'].replace('_', ' ').capitalize()}", "", f"Target: {result['claim'].rstrip('.')}.", ""]
    lines += ["| " + " | ".join(c.replace("_", " ") for c in columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(c)) for c in columns) + " |" for row in result["rows"]]
    if result.get("notes"):
        lines += ["", result["notes"]]
    where = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    script = f"benchmarks/{result['name']}.py"
    return "\n".join([*lines, "", f"Measured on: {where}. Repeat: `python {script}`.", ""])


def main() -> None:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "results").glob("*.json"))]
    results.sort(key=lambda r: (ORDER.index(r["name"]) if r["name"] in ORDER else len(ORDER), r["name"]))
    head = HEAD.format(gpu="" if any(r["name"] == "gpu" for r in results) else NO_GPU)
    PAGE.write_text("\n".join([head, *map(section, results)]), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(HERE.parent)} from {len(results)} results")


if __name__ == "__main__":
    main()
