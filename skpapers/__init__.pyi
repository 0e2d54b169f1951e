from . import calibration as calibration
from . import causal as causal
from . import cluster as cluster
from . import cross_decomposition as cross_decomposition
from . import datasets as datasets
from . import decomposition as decomposition
from . import density as density
from . import graph as graph
from . import hypothesis_testing as hypothesis_testing
from . import kernel_methods as kernel_methods
from . import manifold as manifold
from . import model_selection as model_selection
from . import neural_network as neural_network
from . import optim as optim
from . import processes as processes
from . import ranking as ranking
from . import representation as representation
from . import structure as structure
from . import symmetry as symmetry
from . import time_series as time_series
from . import utils as utils
from ._compare import compare as compare
from .utils import Paper as Paper, papers as papers

__version__: str
