"""Stage one: study + recipe -> embedding file."""

from cxrfeat.extract.extraction import Extraction, extract, make_recipe, recompute

__all__ = ["Extraction", "extract", "make_recipe", "recompute"]
