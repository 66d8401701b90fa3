"""Datasets: folders and tables of images to a study, and the boxes that they have."""

from typing import TYPE_CHECKING

import lazy_loader as _lazy

if TYPE_CHECKING:
    from cxrfeat._datasets.boxes import boxes_of as boxes_of
    from cxrfeat._datasets.boxes import read_boxes as read_boxes
    from cxrfeat._datasets.dataset import DATASETS as DATASETS
    from cxrfeat._datasets.dataset import Dataset as Dataset
    from cxrfeat._datasets.derive import map_study as map_study
    from cxrfeat._datasets.derive import merge_studies as merge_studies
    from cxrfeat._datasets.derive import resplit_study as resplit_study
    from cxrfeat._datasets.derive import subset_study as subset_study
    from cxrfeat._datasets.reading import read_study as read_study

# Lazily, so that help texts list the datasets without importing pandas.
_HOME = {
    "boxes": ["boxes_of", "read_boxes"],
    "dataset": ["DATASETS", "Dataset"],
    "derive": ["map_study", "merge_studies", "resplit_study", "subset_study"],
    "reading": ["read_study"],
}
__getattr__, __dir__, __all__ = _lazy.attach(__name__, submod_attrs=_HOME)
