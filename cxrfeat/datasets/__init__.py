"""Readers of public datasets: their files to a study."""
