"""Datasets: folders and tables of images to a study, and the boxes that they have."""
