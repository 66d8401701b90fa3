from . import cache as cache
from . import errors as errors
from . import weights as weights
from ._backbones.registry import Backbone as Backbone
from ._datasets import Dataset as Dataset
from ._datasets import read_study as read_study
from ._demo import demo as demo
from ._doctor import doctor as doctor
from ._evaluate.comparison import compare as compare
from ._explain.localize import localize as localize
from ._explain.maps import explain as explain
from ._explain.sanity import sanity_check as sanity_check
from ._extract import embed as embed
from ._extract import extract as extract
from ._extract import make_recipe as make_recipe
from ._heads.base import Head as Head
from ._heads.fit import fit_head as fit_head
from ._heads.solver.estimator import MultiLabelLogistic as MultiLabelLogistic
from ._predict import predict as predict
from ._recipe import Recipe as Recipe
from ._run import Run as Run
from ._run import load_run as load_run
from ._sample import copy_sample as copy_sample
from ._store import EmbeddingFile as EmbeddingFile
from ._study import Study as Study

__version__: str
