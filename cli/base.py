"""What every command is: it shows the library's log, and whatever ends it is a sentence and an exit code.

This is the one place that turns errors into sentences: 2 for a CxrfeatError, a disk that fails and a bug (whose
traceback goes into a file), 130 for Ctrl-C.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import click

from cxrfeat._remote import clean, clean_text
from cxrfeat.errors import CxrfeatError

from .options import PathOrAddress


class UserError(click.ClickException):
    """An error on its way to the terminal: its sentence, and exit code 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {self.format_message()}", err=True)


class Command(click.Command):
    """A command of ours; `interrupted` says what Ctrl-C leaves."""

    def __init__(self, *args: Any, interrupted: str = "", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.interrupted = interrupted

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if empty := [text for text in args if text == "" or re.fullmatch(r"--[\w-]+=", text)]:
            raise click.UsageError(f"{empty[0][:-1] or 'an argument'} is empty.", ctx)
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            name = parameter.name or ""
            given = ctx.params.get(name)
            for value in given if isinstance(given, tuple) else (given,):
                if reason := _unusable(value, parameter.type):
                    raise click.BadParameter(reason, ctx, parameter)
            if given is not None:  # credentials in an address go no further
                ctx.params[name] = tuple(map(_clean, given)) if isinstance(given, tuple) else _clean(given)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CxrfeatError as error:
            raise UserError(as_flags(str(error))) from error
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(str(stop) or self.interrupted) from None


def _clean(value: Any) -> Any:
    return clean(value) if isinstance(value, str) else value


def _unusable(value: Any, kind: click.ParamType) -> str:
    """Why no command can use a value, whatever it is for; empty if one may."""
    if isinstance(value, float) and math.isnan(value):
        return "is not a number."
    plain = isinstance(kind, click.Path) and not isinstance(kind, PathOrAddress)
    if plain and re.match(r"[A-Za-z][\w+.-]+:/", str(value)):  # pathlib makes s3:/ of s3://
        return f"{clean(str(value))} is an address, and a file or folder of this machine is needed."
    # Names of files may be any bytes; no other text may.
    if kind is click.STRING and isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        return "is not valid UTF-8."
    return ""


class Group(click.Group):
    """A group whose commands are ours."""

    command_class = Command


class Program(Group):
    """The whole program: every way it can end is here."""

    def main(self, *args: Any, **extra: Any) -> Any:
        attach_log()
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
            flush()
        except BaseException as error:
            code = _ended_by(error)
        sys.exit(code if isinstance(code, int) else 0)


def _ended_by(error: BaseException) -> int:
    """Say what ended the program, and return its exit code."""
    cause = error.__cause__ if isinstance(error, click.Abort) else error
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    if isinstance(cause, KeyboardInterrupt) or _stop_asked:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all that is left is to end; a second one would be a traceback
        _say(f"stopped. {cause}" if isinstance(cause, KeyboardInterrupt) and str(cause) else "stopped.")
        return 130
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, BrokenPipeError):  # `cxrfeat ... | head`
        _drop_stdout()
        return 141
    if isinstance(error, CxrfeatError):
        _say(f"error: {error}")
    elif isinstance(error, OSError) and (error.strerror or isinstance(error, shutil.Error)):
        # Of the files that a folder's copy lacks, the first is named.
        target, reason = error.args[0][0][1:3] if isinstance(error, shutil.Error) else (error.filename, error.strerror)
        _say(f"error: {reason}{f' ({target})' if target else ''}. Check the disk, its free space and its permissions.")
    elif isinstance(error, MemoryError):
        _say("error: not enough memory.")
    else:
        _say(f"error: an unexpected {type(error).__name__}. This is a bug; please report it.{_keep_traceback(error)}")
    _drop_stdout()
    return 2


def _keep_traceback(error: BaseException) -> str:
    text = clean_text("".join(traceback.format_exception(error)))
    try:
        handle, name = tempfile.mkstemp(prefix="cxrfeat-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return ""
    return f" Its traceback is in {name}; look it through for names of patients before you send it."


def _say(text: str) -> None:
    try:
        click.echo(text, err=True)
    except (OSError, ValueError):  # stderr is closed or full: the exit code is all that is left
        return


def flush() -> None:
    """Write out what was printed, while a failing disk can still be reported."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop_stdout() -> None:
    """Let nothing more go to a stdout that fails; the interpreter would complain at its end."""
    try:
        flush()
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115


_stop_asked = 0.0
"""When Ctrl-C came first, seconds of the monotonic clock."""

BOUNCE = 2.0
"""Seconds after a Ctrl-C in which another is the same: it would interrupt the cleaning up."""


def prepare_process() -> None:
    """Make this process ready for whatever it is started with: closed streams, names that are not UTF-8, Ctrl-C."""
    for number in range(3):  # a file opened as number 1 would get what libraries print
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111
    if not (home.is_absolute() and os.access(home, os.W_OK)):  # matplotlib would say so at every start
        os.environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir())
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    # Imports may swallow a KeyboardInterrupt or turn it into another error: what was asked is remembered.
    signal.signal(signal.SIGINT, _stop)


def _stop(*_: Any) -> None:
    global _stop_asked
    if not _stop_asked or time.monotonic() - _stop_asked > BOUNCE:
        _stop_asked = time.monotonic()
        raise KeyboardInterrupt


class LogHandler(logging.Handler):
    """What the library logs, as lines on stderr; warnings say that they are."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(("warning: " if record.levelno >= logging.WARNING else "") + as_flags(record.getMessage()))


def attach_log() -> None:
    """Show the library's log and its warnings; those of other packages are not for the user."""
    log = logging.getLogger("cxrfeat")
    if not any(isinstance(handler, LogHandler) for handler in log.handlers):
        log.addHandler(LogHandler())
        log.setLevel(logging.INFO)
        own = str(Path(__file__).parent.with_name("cxrfeat"))

        def show(message: Any, category: Any, filename: str, *_: Any) -> None:
            if filename.startswith(own):
                log.warning("%s", message)

        warnings.showwarning = show  # type: ignore[assignment]


def as_flags(message: str) -> str:
    """Write the options that a message of the library names as the running command has them.

    The library names its parameters in backticks, as in `max_failures` or `overwrite=True`; on the command line these
    are --max-failures and --overwrite, also where they belong to another command. Other backticks stay as they are.
    """
    context = click.get_current_context(silent=True)
    options = {p.name: p for p in context.command.params if isinstance(p, click.Option)} if context else {}

    def flag(found: re.Match[str]) -> str:
        option = options.get(found.group(1))
        if option is None and found.group(2):
            return f"--{found.group(1).replace('_', '-')}" + f" {found.group(2)}".replace(" True", "")
        if option is None:
            return found.group(0)
        value = "" if option.is_flag or not found.group(2) else f" {found.group(2)}"
        return option.opts[-1] + value

    return re.sub(r"`(\w+)(?:=([^`]*))?`", flag, message)
