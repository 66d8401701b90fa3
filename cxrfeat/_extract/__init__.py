"""Stage one: study + recipe -> embedding file."""

from cxrfeat._extract.extraction import Extraction, extract
from cxrfeat._extract.images import embed
from cxrfeat._extract.recipes import make_recipe

__all__ = ["Extraction", "embed", "extract", "make_recipe"]
