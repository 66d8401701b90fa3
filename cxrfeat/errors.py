"""What cxrfeat raises: one base error and a few leaves.

A message is one or two sentences: what is wrong, in which file and row, what would be right, what to do. The command
line prints it and exits with 2.

Examples
--------
>>> import cxrfeat as cxr
>>> try:
...     cxr.read_study("no-such-study.csv")
... except cxr.errors.CxrfeatError as error:
...     print(type(error).__name__, isinstance(error, FileNotFoundError))
NotFoundError True
"""

from __future__ import annotations


class CxrfeatError(Exception):
    """Base of every error meant for the user."""

    # Errors that are OSErrors too would format themselves from errno; the plain sentence is what the user should see.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NotFoundError(CxrfeatError, FileNotFoundError):
    """A file, folder, study or run that was named does not exist."""


class OutputError(CxrfeatError, FileExistsError):
    """An output that would replace an input, or a file of another kind."""


class StudyError(CxrfeatError, ValueError):
    """A study table that cannot be used: a missing column, an unknown label, duplicate ids, no rows."""


class LeakageError(StudyError):
    """One patient is in two splits.

    Parameters
    ----------
    message : str
        The sentence for the user.
    patients : tuple of str
        The patient ids at fault, sorted; also an attribute.
    """

    def __init__(self, message: str, patients: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.patients = patients


class ImageError(CxrfeatError, ValueError):
    """An image that cannot be decoded or is not an X-ray-like picture."""


class StorageError(CxrfeatError, OSError):
    """An address that cannot be read or written: no rights, no such bucket, a server that does not answer."""


class UnavailableError(StorageError):
    """A file at an address that could not be read now, after several tries, and may be readable later."""


class WeightsError(CxrfeatError, RuntimeError):
    """Backbone weights that are not available, or do not have the hash expected."""


class EngineError(CxrfeatError, RuntimeError):
    """An inference engine that is not installed or cannot run this backbone."""


class RecipeError(CxrfeatError, ValueError):
    """Two things made by different recipes were put together."""


class EmbeddingFileError(CxrfeatError, OSError):
    """An embedding file that is damaged, foreign, of a newer version, or cannot be written."""


class LockedError(EmbeddingFileError):
    """Another process is writing this embedding file."""


class HeadError(CxrfeatError, ValueError):
    """A head that cannot be made, fitted, loaded or used as asked."""


class EvaluationError(CxrfeatError, ValueError):
    """Predictions and labels that cannot be evaluated together."""


class ExplainError(CxrfeatError, ValueError):
    """An explanation that cannot be computed for this head or image."""


class ClusterError(CxrfeatError, RuntimeError):
    """A Ray cluster that is not there, or a worker of it that cannot do its part."""


class MissingExtraError(CxrfeatError, ImportError):
    """An optional package is needed and not installed.

    Parameters
    ----------
    what : str
        What was wanted, as the sentence's subject.
    extra : str
        The extra of cxrfeat that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package: pip install 'cxrfeat[{extra}]'.")
