"""What K augmented passes cost: at most K + 1 times one pass, less the K decodes saved."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import harness


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--number", type=int, default=150)
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    files, what = harness.image_files(given.images, given.number)
    passes, seconds, decode = (0, 1, 2, 5), {}, []
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "files.txt"
        listing.write_text("\n".join(map(str, files)))
        for turn in range(given.repeats):
            for k in passes:
                command = [sys.executable, harness.HERE / "peers" / "ours.py", "densenet121", 224]
                command += [Path(folder) / f"{turn}-{k}" / "alone.h5", k, listing, "float32"]
                command += ["bound"] if k == 0 else []
                answer = harness.run_json(command)
                seconds.setdefault(k, []).append(answer["seconds"] / answer["images"])
                if k == 0:
                    decode.append(answer["decode_seconds"] / answer["cores"])
    one, saved = harness.median(seconds[0]), harness.median(decode)
    rows = []
    for k in passes:
        cost = harness.median(seconds[k])
        allowed = (k + 1) * one - k * saved
        rows.append(
            {
                "augmented passes": k,
                "times one pass": round(cost / one, 2),
                "K + 1 less the decodes saved": round(allowed / one, 2),
                "share of that": round(cost / allowed, 3),
            }
        )
    harness.save(
        "passes", "K augmented passes cost K + 1 times one pass, less the K decodes saved", rows, f"Images: {what}."
    )


if __name__ == "__main__":
    main()
