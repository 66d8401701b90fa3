"""How an extraction's cost grows: with the number of images, and with the side of the network's input."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import harness

NUMBERS, SIZES, SOME = (50, 100, 200, 400), (128, 224, 320, 448, 512), 60
USUAL = 224


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    files, what = harness.image_files(given.images, max(NUMBERS))
    cases = [("images", number, number, USUAL) for number in NUMBERS if number <= len(files)]
    cases += [("side of the input, pixels", size, SOME, size) for size in SIZES]
    costs: dict[tuple, list[float]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as name:
        listing = Path(name) / "files.txt"
        for turn in range(given.repeats):
            for case in cases:
                _, value, number, size = case
                listing.write_text("\n".join(map(str, files[:number])))
                out = Path(name) / f"{turn}-{value}-{number}.h5"
                command = [sys.executable, harness.HERE / "peers" / "ours.py", "densenet121", size, out, 0, listing]
                answer = harness.run_json(command)
                costs[case].append(1000 * answer["seconds"] / answer["images"])
    usual = {"images": harness.median(costs[cases[-len(SIZES) - 1]])}
    usual["side of the input, pixels"] = harness.median(costs["side of the input, pixels", USUAL, SOME, USUAL])
    rows = []
    for case, found in costs.items():
        grows, value, number, size = case
        cost = harness.median(found)
        row = {"grows": grows, "value": value, "images": number, "ms an image": round(cost, 1)}
        row["by the usual"] = round(cost / usual[grows], 2)
        rows.append({**row, "pixels by the usual": round((size / USUAL) ** 2, 2)})
    harness.save(
        "growth",
        "An image costs the same however many there are; beyond 224 pixels, no more than in proportion to its pixels",
        rows,
        f"Images: {what}. DenseNet121, pass 0, from the first file to a closed embedding file, opening the network "
        f"included: it is what few images cost more. The usual: {max(NUMBERS)} images; {USUAL} pixels.",
    )


if __name__ == "__main__":
    main()
