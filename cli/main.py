"""The `cxrfeat` command: a table of subcommands, each imported only when it is called."""

from __future__ import annotations

from pkgutil import resolve_name

import click

from .base import Program, prepare_process

# Command, its place, first line of its help. The line is here so that `cxrfeat --help` imports none of the modules.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo:demo", "Run the whole job on the embedded sample."),
    "sample": ("demo:sample", "Copy the embedded X-rays into a folder, to try things on."),
    "study": ("study:command", "Build and describe the table of images."),
    "extract": ("extract:command", "Run a frozen backbone over a study and cache its embeddings."),
    "fit-head": ("fit_head:command", "Train a multi-label head on cached embeddings."),
    "predict": ("predict:command", "Predict findings for a study or for single images."),
    "evaluate": ("evaluate:evaluate", "Metrics of a run, with intervals, by group."),
    "roc": ("evaluate:roc", "Draw ROC curves."),
    "compare": ("evaluate:compare", "Compare runs on the same images, with tests."),
    "gradcam": ("gradcam:gradcam", "Draw where in the image the evidence for a finding is."),
    "localize": ("gradcam:localize", "Score maps against the radiologists' boxes."),
    "report": ("report:command", "Write one self-contained HTML report."),
    "reproduce": ("reproduce:command", "Reproduce the reference paper."),
    "runs": ("runs:command", "List runs and check their files."),
    "cache": ("cache:command", "List, check, repair, join and export embedding files."),
    "weights": ("weights:command", "List and fetch backbone weights."),
    "doctor": ("doctor:command", "Check this machine and say how to fix what is wrong."),
}


class LazyGroup(Program):
    """A group whose subcommands are imported when they are called, and listed without being imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return resolve_name(f"{__package__}.{COMMANDS[name][0]}")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True},
)
@click.version_option(package_name="cxrfeat")
def cli() -> None:
    """From a folder of chest X-rays to a multi-label classifier that can be trusted.

    \b
    The pipeline:  study build -> extract -> fit-head -> evaluate, roc, gradcam
    The quick look: cxrfeat demo

    Every command has --help with an example. Not a medical device.
    """


def main() -> None:
    """Entry point of the installed command."""
    prepare_process()
    cli.main(prog_name="cxrfeat")


if __name__ == "__main__":
    main()
