"""Every figure of numbers, by one name each; the drawing is in the modules beside this one."""

from __future__ import annotations

from cxrfeat.report.curves import roc

__all__ = ["roc"]
