"""Weighted multi-label logistic regression to its optimum; `MultiLabelLogistic` is its estimator."""
