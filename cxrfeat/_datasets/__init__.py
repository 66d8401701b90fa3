"""Datasets: folders and tables of images to a study, and the boxes that they have."""

from cxrfeat._datasets.boxes import boxes_of, read_boxes
from cxrfeat._datasets.dataset import DATASETS, Dataset
from cxrfeat._datasets.reading import read_study

__all__ = ["DATASETS", "Dataset", "boxes_of", "read_boxes", "read_study"]
