"""Metrics, intervals, curves and comparisons; the functions behind them work on plain arrays."""

from cxrfeat._evaluate.comparison import Comparison, compare
from cxrfeat._evaluate.curves import roc
from cxrfeat._evaluate.evaluation import Evaluation, evaluate
from cxrfeat._evaluate.metrics import METRICS, Metric
from cxrfeat._evaluate.scored import Scored, scored_run

__all__ = [
    "METRICS",
    "Comparison",
    "Evaluation",
    "Metric",
    "Scored",
    "compare",
    "evaluate",
    "roc",
    "scored_run",
]
