from ._bridge import TorchEstimator as TorchEstimator
from ._families import (
    TorchClassifier as TorchClassifier,
    TorchRegressor as TorchRegressor,
    TorchTransformer as TorchTransformer,
)
from ._layers import ScaledLinear as ScaledLinear, make_mlp as make_mlp
from ._mlp import NeuralClassifier as NeuralClassifier, NeuralRegressor as NeuralRegressor
from ._net import DivergenceError as DivergenceError
from ._random import (
    Dropout as Dropout,
    build_module as build_module,
    initialize as initialize,
    torch_generator as torch_generator,
)
from ._registry import Registry as Registry, get_registry as get_registry, register as register
