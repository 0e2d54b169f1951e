"""Self-supervised transformers: two views of each row, an encoder, a projector and a loss."""

import copy
import math
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn
from torch.optim import lr_scheduler

from ._augmentations import image_affine, jitter, mask_features, resample_features
from ._families import TorchTransformer
from ._layers import make_mlp
from ._registry import register

__all__ = ["SelfSupervisedTransformer"]

_AUGMENTATIONS = ("resample", "mask", "jitter", "image_affine")


class SelfSupervisedTransformer(TorchTransformer):
    """Base of the transformers that learn from two distortions of the same row.

    A subclass provides ``_pair_loss(module, Z1, Z2)``, the loss of the two projections of a batch,
    and declares among its parameters `n_components`, `hidden_layer_sizes`, `projector_sizes`,
    `augmentation`, `corruption`, `image_shape` and `encoder`; it may override
    ``_make_encoder()``, ``_make_projector(n_in)`` and ``_distort(X, generator)``. Training is in
    float32. Where it lets `lr` be "auto", that is ``_auto_lr``, or for the optimizer "lars"
    ``_lars_lr`` for 256 rows a batch; where it has a parameter `warmup`, the rate rises for so
    many epochs, "auto" being 10 with "lars" and None, a constant rate, without. See
    :class:`TorchTransformer` for the rest.

    Attributes
    ----------
    encoder_ : torch.nn.Module
        From rows to embeddings.
    projector_ : torch.nn.Module
        From embeddings to what the loss sees.

    Examples
    --------
    >>> from skpapers.neural_network import SelfSupervisedTransformer, TorchTransformer
    >>> issubclass(SelfSupervisedTransformer, TorchTransformer)
    True
    """

    _even_batches = True
    _auto_lr = 1e-3
    _lars_lr = 0.2  # for batches of 256 rows
    _training_defaults = {
        "optimizer": "adamw",
        "weight_decay": 1e-6,
        "batch_size": 256,
        "dtype": "float32",
    }

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "projector_sizes": ["array-like"],
        "augmentation": [StrOptions(set(_AUGMENTATIONS)), callable, tuple],
        "corruption": [Interval(Real, 0, 1, closed="both")],
        "image_shape": ["array-like", None],
        "encoder": [nn.Module, None],
        "warmup": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"}), None],
    }

    @abstractmethod
    def _pair_loss(self, module, Z1, Z2):
        """Compute the loss of the projections of both views of a batch."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, X_pair=None):
        """Learn the embedding.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, at least two rows; with an `encoder`, of any shape that it takes.
        y : None
            Ignored.
        X_pair : array-like of the shape of X, default=None
            A second view of each row, used in place of the augmentation.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X if X_pair is None else _Pair(X, X_pair))

    def transform(self, X):
        """Embed the rows of X with the encoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            The embedding, in the data type of X.
        """
        return self._map(self._embed, X)

    def project(self, X):
        """Map the rows of X through encoder and projector, to what the loss sees.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_projections)
            The projections, in the data type of X.
        """
        return self._map(lambda module, inputs: module(*inputs), X)

    def _map(self, function, X):
        """Predict in the precision of X, so that float64 rows do not depend on their batch."""
        check_is_fitted(self)
        if _is_float32(X):
            return self._predict(function, X)
        module = copy.deepcopy(self.module_).double()
        return self._predict(
            lambda _, inputs: function(module, tuple(x.double() for x in inputs)), X
        )

    @property
    def encoder_(self):
        """The trained encoder."""
        return self.module_.encoder

    @property
    def projector_(self):
        """The trained projector."""
        return self.module_.projector

    @property
    def _n_features_out(self):
        return self.module_.n_components

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = self.encoder is not None
        return tags

    def _parse(self, X, y="no_validation", *, reset):
        if isinstance(X, _Pair):
            (first,), _ = self._parse(X.X, reset=reset)
            (second,), _ = self._parse(X.X_pair, reset=False)
            if first.shape != second.shape:
                raise ValueError(f"X_pair has shape {second.shape}, X has {first.shape}")
            return (first, second), None
        X = validate_data(
            self, X, reset=reset, dtype=self._dtypes(), allow_nd=self.encoder is not None
        )
        if reset:
            self._row_shape = X.shape[1:]
        elif X.shape[1:] != self._row_shape:
            raise ValueError(f"X has rows of shape {X.shape[1:]}, fitted on {self._row_shape}")
        return (X,), None

    def _encode(self, X, y, sample_weight, *, reset):
        data = super()._encode(X, y, sample_weight, reset=reset)
        if data.n_rows < 2:
            raise ValueError(
                f"{type(self).__name__} learns from correlations over rows, and found n_samples=1"
            )
        return data

    def _setting(self, name):
        value = super()._setting(name)
        lars = getattr(self, "optimizer", None) == "lars"
        if name == "lr" and value == "auto":
            rows = self._setting("batch_size") or 256
            return self._lars_lr * rows / 256 if lars else self._auto_lr
        if name == "lr_schedule" and hasattr(self, "warmup"):
            warmup = (10 if lars else None) if self.warmup == "auto" else self.warmup
            epochs = self._setting("max_epochs")
            return None if warmup is None else f"warmup_cosine(warmup={min(warmup, epochs)})"
        return value

    def _make_module(self):
        encoder = self._make_encoder()
        n_components = output_width(encoder, self._row_shape)
        return TwoViewNetwork(encoder, self._make_projector(n_components), n_components)

    def _make_encoder(self):
        if self.encoder is not None:
            return copy.deepcopy(self.encoder).to("meta")
        sizes = check_sizes("hidden_layer_sizes", self.hidden_layer_sizes)
        return batch_norm_mlp(math.prod(self._row_shape), (*sizes, self.n_components))

    def _make_projector(self, n_in):
        return batch_norm_mlp(n_in, check_sizes("projector_sizes", self.projector_sizes))

    def _embed(self, module, inputs):
        return module.encoder(*inputs)

    def _loss(self, module, batch):
        first, second = self._views(batch.inputs, module.generator)
        return self._pair_loss(module, module(first), module(second))

    def _views(self, inputs, generator):
        """Two views of a batch: those given, or two distortions."""
        if len(inputs) == 2:
            return inputs
        (X,) = inputs
        if isinstance(self.augmentation, tuple):
            first, second = self.augmentation
            return call_in_numpy(first, X, generator), call_in_numpy(second, X, generator)
        return self._distort(X, generator), self._distort(X, generator)

    def _distort(self, X, generator):
        if callable(self.augmentation):
            return call_in_numpy(self.augmentation, X, generator)
        if self.augmentation == "image_affine":
            return image_affine(X, generator, self.image_shape)
        distortions = {"resample": resample_features, "mask": mask_features, "jitter": jitter}
        return distortions[self.augmentation](X, generator, self.corruption)


class _Pair(NamedTuple):
    """Two views of the same rows, before validation."""

    X: Any
    X_pair: Any


class TwoViewNetwork(nn.Module):
    """An encoder, whose output is the embedding, and a projector that only the loss sees."""

    def __init__(self, encoder, projector, n_components):
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.n_components = n_components
        self.generator = None  # the bridge puts its own here: what distortions draw from

    def forward(self, X):
        """Project the rows of X."""
        return self.projector(self.encoder(X))


def batch_norm_mlp(n_in, sizes):
    """Linear, batch norm and ReLU for each size but the last, which is linear; no biases."""
    if not sizes:
        return nn.Identity()
    return make_mlp(
        n_in, sizes[:-1], sizes[-1], normalization="batch", parametrization=_without_bias
    )


def _without_bias(n_in, n_out, role):
    return nn.Linear(n_in, n_out, bias=False)  # the normalisation that follows has its own shift


def output_width(encoder, row_shape):
    """Number of columns that a module on the meta device makes of rows of this shape."""
    output = encoder.eval()(torch.empty(2, *row_shape, device="meta"))
    if output.ndim != 2:
        raise ValueError(f"encoder must return a matrix, its output has {output.ndim} dimensions")
    return output.shape[1]


def check_sizes(name, sizes):
    """Widths of layers as a tuple of positive integers."""
    sizes = tuple(sizes)
    if not all(isinstance(size, Integral) and size > 0 for size in sizes):
        raise ValueError(f"{name} must be positive integers, got {sizes!r}")
    return sizes


def call_in_numpy(augmentation, X, generator):
    """Apply a function ``(X, rng) -> X`` of arrays to a batch of tensors."""
    seed = int(torch.randint(2**31, (), generator=generator))
    distorted = np.asarray(augmentation(X.cpu().numpy().copy(), np.random.default_rng(seed)))
    if distorted.shape != tuple(X.shape):
        raise ValueError(
            f"augmentation must keep the shape {tuple(X.shape)}, returned {distorted.shape}"
        )
    return torch.tensor(distorted, dtype=X.dtype, device=X.device)


@register("schedule", "warmup_cosine")
def _warmup_cosine(optimizer, epochs, warmup=10, final=1e-3):
    """Rise linearly for `warmup` epochs, then fall along a cosine to `final` times the rate."""

    def factor(epoch):
        if epoch < warmup:
            return (epoch + 1) / (warmup + 1)
        share = min(1.0, (epoch - warmup) / max(1, epochs - 1 - warmup))
        return final + (1 - final) * (1 + math.cos(math.pi * share)) / 2

    return lr_scheduler.LambdaLR(optimizer, factor)


def _is_float32(X):
    dtype = X.dtype if hasattr(X, "dtype") else np.asarray(X).dtype
    return str(dtype).endswith("float32")
