"""Metrics, intervals and comparisons, as plain functions over arrays."""

from cxrfeat._evaluate.scored import Scored, scored_run
from cxrfeat._evaluate.summary import Evaluation, evaluate, evaluate_run

__all__ = ["Evaluation", "Scored", "evaluate", "evaluate_run", "scored_run"]
