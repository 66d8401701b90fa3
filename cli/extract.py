"""`cxrfeat extract`: stage one."""

from __future__ import annotations

from dataclasses import asdict

import click

import cxrfeat as cxr
from cxrfeat._recipe import DEFAULTS

from .base import Command, UserError
from .options import BACKBONE, SEED, OneOf, PathOrAddress, engine_option, given, input_options, study_argument
from .output import ended, json_option, print_json, say, watched

POLICY = OneOf("cxrfeat._images.choices:POLICIES")
PRECISION, STORAGE = OneOf("cxrfeat._precision:PRECISIONS"), OneOf("cxrfeat._recipe:STORAGES")
VOI = OneOf("cxrfeat._images.choices:VOIS")


@click.command("extract", cls=Command, interrupted="What was embedded is kept; the same command resumes.")
@study_argument
@click.option(
    "-o", "--out", type=PathOrAddress(dir_okay=False),
    help="The embedding file, also at an address.  [default: cache/<study>-<backbone>-<recipe>.h5]",
)  # fmt: skip
@click.option(
    "-b", "--backbone", type=BACKBONE,
    help="The network; `cxrfeat weights ls` lists them.  [default: that of imported weights, else "
    f"{DEFAULTS['backbone']}]",
)  # fmt: skip
@click.option(
    "-w", "--weights", default=DEFAULTS["weights"],
    help="imagenet, random:SEED, the name of imported weights, a .h5 file, or auto: imagenet, else (on the sample "
    "alone) random:0.",
)  # fmt: skip
@click.option("-p", "--passes", type=click.IntRange(0, 1000), help="Augmented passes beside pass 0.  [default: 0]")
@click.option("--policy", type=POLICY, help=f"Augmentation; mild has no mirror.  [default: {DEFAULTS['policy']}]")
@click.option(
    "--seed", type=SEED, help="Seed of the augmentation draws, and of the films that int8 is made with.  [default: 0]"
)
@input_options("the backbone's own")
@click.option("--crop-borders", is_flag=True, help="Cut black and white borders off first.")
@click.option("--voi", type=VOI, help=f"What becomes black and white.  [default: {DEFAULTS['voi']}]")
@click.option("--precision", type=PRECISION, help=f"What the network computes in.  [default: {DEFAULTS['precision']}]")
@click.option("--storage", type=STORAGE, help=f"What the file keeps numbers in.  [default: {DEFAULTS['storage']}]")
@engine_option
@click.option(
    "--max-failures", type=click.IntRange(0),
    help="Exit 2 if more images than this cannot be used.  [default: 5 % of the study]",
)  # fmt: skip
@click.option("--retry", is_flag=True, help="Try images again that could not be used.")
@click.option("--workers", type=click.IntRange(1), help="Threads.  [default: what keeps this machine busy]")
@click.option(
    "--shard", metavar="I/N", help="Only share I of N of the images, 1/N to N/N, into a file of its own: for Slurm "
    "arrays and GNU parallel. `cxrfeat cache merge` joins them.",
)  # fmt: skip
@click.option(
    "--ray", is_flag=False, flag_value="", metavar="[ADDRESS]",
    help="Embed on the Ray cluster at HOST:PORT, or on the one that is running. ADDRESS?gpus=0.5 or ?cpus=4: what each "
    "worker takes.",
)  # fmt: skip
@json_option
def command(study: str | None, ray: str | None, as_json: bool, **options) -> None:
    """Run a frozen backbone over a study and cache its embeddings.

    STUDY is a study file, a name under studies/, or `sample`; by default the only one there is. An interrupted
    extraction resumes, and a finished one is not repeated.

    \b
    Example:
      cxrfeat extract sample --passes 2
      cxrfeat extract studies/nih.csv --backbone resnet50 --size 400
      cxrfeat extract nih --shard 3/8
    """
    result = watched("extract", cxr.extract, study, ray=ray or ray is not None, **given(options))
    _report(result)
    if as_json:
        facts = {name: value for name, value in vars(result).items() if name not in ("recipe", "wall", "seconds")}
        say(result.describe())
        print_json({
            **facts,
            "recipe": asdict(result.recipe),
            "recipe_sha256": result.recipe.sha256,
            "wall_seconds": result.wall,
            "images_per_second": result.rate,
            "worker_seconds": asdict(result.seconds),
        })  # fmt: skip
    else:
        join = f"cxrfeat cache merge {result.path.parent}, once all shards are there"
        then = join if result.shard else "cxrfeat fit-head --weighted"
        ended(result.address or result.path, result.describe(), then)
    if result.too_many_failures:
        raise UserError(
            f"{len(result.failed)} images could not be used, more than the {result.max_failures} allowed; the others "
            f"are in {result.path}. `cxrfeat cache info {result.path}` lists them."
        )


def _report(result) -> None:
    say(result.recipe.describe())
    if result.extracted:
        say(f"time went to: {', '.join(f'{name} {share:.0%}' for name, share in result.shares().items())}.")
    if result.gone:
        say(f"{result.gone:,} images are no longer on disk; their embeddings are kept.")
    for image_id, reason in list(result.failed.items())[:10]:
        say(f"  could not be used: {image_id} {reason}")
    if len(result.failed) > 10:
        say(f"  and {len(result.failed) - 10} more; `cxrfeat cache info` lists them.")
