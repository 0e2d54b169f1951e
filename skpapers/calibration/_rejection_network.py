"""A network that tells where to reject, trained with the surrogate of the rejection loss."""

import torch

from skpapers.neural_network import TorchEstimator, make_mlp

from ._rejectors import EXP_LIMIT

__all__ = ["RejectionNetwork"]


class RejectionNetwork(TorchEstimator):
    """A multi-layer perceptron whose output is positive where a prediction is to be accepted."""

    def __init__(
        self,
        cost=0.1,
        alpha=2.0,
        beta=1.0,
        *,
        hidden_layer_sizes=(64,),
        lr=1e-2,
        weight_decay=0.0,
        max_epochs=100,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.cost = cost
        self.alpha = alpha
        self.beta = beta
        self.hidden_layer_sizes = hidden_layer_sizes
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, error, sample_weight=None):
        """Train on rows that are predicted right (0) or wrong (1)."""
        return self._fit(X, error, sample_weight)

    def _encode_target(self, y, weight, *, reset):
        return y, weight

    def _make_module(self):
        return make_mlp(self.n_features_in_, self.hidden_layer_sizes, 1)

    def _loss(self, module, batch):
        r = module(*batch.inputs)[:, 0]
        loss = batch.y * exp_linear(self.alpha / 2 * r) + self.cost * exp_linear(-self.beta * r)
        return loss.mean() if batch.weight is None else loss

    def decision_function(self, X):
        """Output of the network."""
        return self._predict(lambda module, inputs: module(*inputs)[:, 0], X)


def exp_linear(t):
    """exp(t), from `EXP_LIMIT` on its tangent."""
    return torch.exp(t.clamp(max=EXP_LIMIT)) * (1 + (t - EXP_LIMIT).clamp(min=0))
