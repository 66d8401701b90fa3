"""What every command is: one that shows the library's log, and turns its errors into a sentence and exit code 2."""

from __future__ import annotations

import logging
import re
from typing import Any

import click

from cxrfeat.errors import CxrfeatError


class UserError(click.ClickException):
    """A CxrfeatError on its way to the terminal: its sentence, and exit code 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {self.format_message()}", err=True)


class Command(click.Command):
    """A command of ours."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CxrfeatError as error:
            raise UserError(as_flags(str(error))) from error


class Group(click.Group):
    """A group whose commands are ours."""

    command_class = Command


class LogHandler(logging.Handler):
    """What the library logs, as lines on stderr; warnings say that they are."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(("warning: " if record.levelno >= logging.WARNING else "") + as_flags(record.getMessage()), err=True)


def attach_log() -> None:
    """Have the library's log shown, once."""
    log = logging.getLogger("cxrfeat")
    if not any(isinstance(handler, LogHandler) for handler in log.handlers):
        log.addHandler(LogHandler())
        log.setLevel(logging.INFO)


def as_flags(message: str) -> str:
    """Write the options that a message of the library names as the running command has them.

    The library names its parameters in backticks, as in `max_failures` or `overwrite=True`; on the command line these
    are --max-failures and --overwrite. What is in backticks and is no option of the command stays as it is.
    """
    context = click.get_current_context(silent=True)
    options = {p.name: p for p in context.command.params if isinstance(p, click.Option)} if context else {}

    def flag(found: re.Match[str]) -> str:
        option = options.get(found.group(1))
        if option is None:
            return found.group(0)
        value = "" if option.is_flag or not found.group(2) else f" {found.group(2)}"
        return option.opts[-1] + value

    return re.sub(r"`(\w+)(?:=([^`]*))?`", flag, message)
