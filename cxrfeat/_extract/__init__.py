"""Stage one: study + recipe -> embedding file."""

from cxrfeat._extract.extraction import Extraction, extract, recompute
from cxrfeat._extract.recipes import make_recipe

__all__ = ["Extraction", "extract", "make_recipe", "recompute"]
