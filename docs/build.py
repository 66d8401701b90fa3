"""Write `commands.md` and `datasets.md` from what commands and datasets say of themselves, and check relative links.

Run by `make docs`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from cxrfeat_cli.main import COMMANDS, cli

from cxrfeat._datasets.dataset import DATASETS, Dataset
from cxrfeat._labels import PARENTS

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 90
HEAD = """# Commands

Every command with its options, as `--help` prints it. Written by `make docs`; do not edit.
"""

DATASETS_HEAD = """# Datasets

Public datasets are recognised by their tables, and read as they are released: labels, what is unknown, views, official
splits, boxes. Name the folder, or one of its tables, as SOURCE:

```bash
cxrfeat study build CheXpert-v1.0-small -o studies/chexpert.csv
cxrfeat study describe chexpert
```

`study describe` compares the study with the published counts and says what is missing. No image and no table comes with
cxrfeat. Each dataset has terms of its own: read them before you download. Written by `make docs` from the declarations
in `cxrfeat/_datasets`; do not edit.

## From a folder to ROC curves

A study once built, three commands follow, for every dataset the same. The COVID-19 image data collection is there for
anyone:

```bash
git clone https://github.com/ieee8023/covid-chestxray-dataset
cxrfeat study build covid-chestxray-dataset --label COVID-19 --name covid
cxrfeat extract covid
cxrfeat fit-head --study covid --weighted
cxrfeat roc
```

## The datasets

"""

AFTER = """## A folder per class

Folders named after their class, such as the sets of COVID-19 that are on Kaggle: `train/COVID/1.jpg`,
`train/NORMAL/2.jpg`. See [your own table](how-to/own-csv.md#without-a-table). `COVID`, `Covid19` and `COVID-19` are one
label.

```bash
cxrfeat study build covid-folders --name folders
cxrfeat extract folders
cxrfeat fit-head --study folders --weighted
cxrfeat roc
```

**Traps**

- Such folders seldom say whose the images are. `--patient` finds the patient in file names; otherwise no leakage can be
  checked.
- The classes often come from different sources, in other sizes and formats, and can be told by these alone. `cxrfeat
  study describe` shows what file properties alone score.

## DICOM files

A folder of DICOM files with nothing beside them: see [DICOM](how-to/dicom.md).

## Uncertain labels

Reports say "possible pneumonia", and tables write -1. What that means is your decision, and the study records it:

| option | -1 becomes |
|---|---|
| `--uncertain unknown` (the default for known datasets) | unknown: left out of training and of evaluation |
| `--uncertain positive`, `--uncertain negative` | 1, 0 |
| `--uncertain 0.7` | a probability |
| `--uncertain positive --uncertain Edema=unknown` | for single labels what they say, for the others `positive` |
| `--soft` | the probability 0.5 where `--uncertain` says nothing else |

The logistic and the Keras head [learn from probabilities](heads.md#soft-targets). For every other head, and for every
evaluation, they are unknown.

`--unmentioned negative` is about something else: empty cells of CheXpert and MIMIC-CXR, of findings that a report does
not mention.

## Names of findings

One finding has several names: `Pleural Effusion` is `Effusion`, `Airspace opacity` is `Lung Opacity`, `Pulmonary
fibrosis` is `Fibrosis`. Every reader uses one name. A label that a dataset does not have is unknown there, never 0.

Some findings are kinds of others. `cxrfeat study map STUDY --to NAME` gives a study the labels of another, and derives
what can be: a finding is present where a kind of it is, and absent where what it is a kind of is absent. It never
follows that a finding is absent because the kinds of it that a dataset has are.

| finding | is a kind of |
|---|---|
"""

STUDIES = """
## Studies of studies

| to | command | Python |
|---|---|---|
| use the labels of another dataset | `cxrfeat study map chexpert --to nih` | `cxr.map_study` |
| put several together | `cxrfeat study merge nih chexpert` | `cxr.merge_studies` |
| take some rows or labels | `cxrfeat study subset nih --where view=PA --one-per patient` | `cxr.subset_study` |
| split again | `cxrfeat study resplit nih --test 0.2 --seed 1` | `cxr.resplit_study` |

Each writes a new study, under `studies/`, and records what it was made of. `--one-per patient` takes one image of each:
a frontal one if there is one, then the earliest follow-up, then the first id, whatever the order of the rows.

Embeddings belong to images, not to studies: images of a part or of a merged study whose ids stayed the same are not
extracted again, if you name the embedding file.

See also [training on one dataset and validating on another](how-to/external-validation.md).
"""


def datasets_page() -> str:
    """The text of `datasets.md`."""
    known = {name: DATASETS[name] for name in DATASETS.names if not DATASETS[name].generic}
    parts = [
        DATASETS_HEAD.rstrip() + "\n",
        "| `--dataset` | what it is | images | patients | boxes |",
        "|---|---|---|---|---|",
    ]
    for name, dataset in known.items():
        counts = [f"{dataset.counts[what]:,}" if what in dataset.counts else "" for what in ("images", "patients")]
        link = f"[{_heading(dataset)}](#{re.sub(r'[^a-z0-9 -]', '', _heading(dataset).lower()).replace(' ', '-')})"
        parts.append(f"| `{name}` | {link} | {' | '.join(counts)} | {'yes' if dataset.boxes else ''} |")
    parts += ["", *(_section(name, dataset) for name, dataset in known.items()), AFTER.rstrip()]
    parts += [f"| {kind} | {parent} |" for kind, parent in PARENTS.items()]
    return "\n".join([*parts, STUDIES])


def _heading(dataset: Dataset) -> str:
    title = re.sub(r"^(?:an?|the) | release$", "", dataset.title)
    return title[0].upper() + title[1:]


def _section(name: str, dataset: Dataset) -> str:
    lines = [f"## {_heading(dataset)}\n\n{dataset.get}\n\n```bash\n{dataset.command}\n```\n"]
    if dataset.labels:
        lines.append(f"**Labels:** {', '.join(dataset.labels)}.\n")
    if own := [f"`--{option.replace('_', '-')}`" for option in dataset.options if option in SHOWN]:
        lines.append(f"**Options of its own:** {', '.join(own)}.\n")
    lines.append("**Traps**\n\n" + "\n".join(f"- {trap}" for trap in dataset.traps) + "\n")
    if dataset.counts:
        counts = "; ".join(f"{what} {n:,}" for what, n in dataset.counts.items())
        lines.append(f"**Published counts:** {counts} ({dataset.counted}).\n")
    lines.append(f"**Licence:** {dataset.licence}\n\n**Cite:** {dataset.citation}\n")
    return "\n".join(lines)


SHOWN = ("unmentioned", "readers")


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command and subcommand, with its full name."""
    top = click.Context(cli, info_name="cxrfeat", terminal_width=WIDTH, max_content_width=WIDTH, show_default=True)
    for name in COMMANDS:
        command = cli.get_command(top, name)
        if command is None:
            continue
        context = click.Context(command, info_name=name, parent=top)
        yield f"cxrfeat {name}", command, context
        if isinstance(command, click.Group):
            for part in command.list_commands(context):
                if (inner := command.get_command(context, part)) is not None:
                    yield f"cxrfeat {name} {part}", inner, click.Context(inner, info_name=part, parent=context)


def page() -> str:
    """The text of `commands.md`."""
    parts = [HEAD]
    for name, command, context in commands():
        parts.append(f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def pages() -> list[Path]:
    """Every Markdown page of the project."""
    return [
        page for pattern in ("*.md", "docs/**/*.md", "cache/*.md", "cxrfeat/**/*.md") for page in ROOT.glob(pattern)
    ]


def broken_links(paths: Iterable[Path]) -> list[str]:
    """Relative links of Markdown pages whose file or heading does not exist, as `page: link`."""
    found = []
    for path in paths:
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"", text):
            target, _, heading = (link[0] or link[1]).partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            file = (path.parent / target).resolve() if target else path
            if not file.exists() or (heading and heading not in headings(file)):
                found.append(f"{path.relative_to(ROOT)}: {link[0] or link[1]}")
    return found


def headings(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    lines = re.findall(r"^#+ +(.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def main() -> int:
    """Write the pages; 1 if a link is broken."""
    (ROOT / "docs" / "commands.md").write_text(page(), encoding="utf-8")
    (ROOT / "docs" / "datasets.md").write_text(datasets_page(), encoding="utf-8")
    broken = broken_links(pages())
    for line in broken:
        print(f"broken link: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
