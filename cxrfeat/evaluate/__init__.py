"""Metrics, intervals and comparisons, as plain functions over arrays."""
