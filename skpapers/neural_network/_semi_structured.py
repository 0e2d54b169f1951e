"""The part that the semi-structured regressor and classifier share."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer, SplineTransformer, StandardScaler
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ._layers import make_mlp
from ._mlp import _MLP
from ._orthogonal_projection import (
    SemiStructuredNet,
    projection,
    second_differences,
)

__all__ = ["SemiStructured", "column_numbers", "has_network", "row_weights"]

_CHUNK = 8192


def has_network(estimator):
    return estimator.deep_features is None or len(estimator.deep_features) > 0


class SemiStructured(_MLP):
    """What the regressor and the classifier share: both parts, and what is done after training."""

    _parameter_constraints = {
        "structured": [StrOptions({"linear", "spline"}), HasMethods(["fit", "transform"])],
        "deep_features": ["array-like", None],
        "structured_features": ["array-like", None],
        "n_knots": [Interval(Integral, 2, None, closed="left")],
        "degree": [Interval(Integral, 1, None, closed="left")],
        "smoothing": [Interval(Real, 0, None, closed="left")],
        "orthogonalization": [StrOptions({"post", "none", "online"})],
        "init_structured": [StrOptions({"least_squares", "zeros"})],
        "family": [StrOptions({"gaussian", "poisson", "gamma"})],
    }
    _search_space = {
        "structured": ["linear", "spline"],
        "hidden_layer_sizes": [(20,), (100, 50)],
        "lr": [1e-3, 3e-3],
    }

    @staticmethod
    def _small_params():
        return {"hidden_layer_sizes": (20,), "max_epochs": 50, "lr": 3e-3}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags

    def _setting(self, name):
        if not has_network(self):  # a convex problem, which L-BFGS solves on all rows
            closed = {"optimizer": "lbfgs", "lr": 1.0, "batch_size": None, "early_stopping": False}
            closed["optimizer_params"] = {"line_search_fn": "strong_wolfe", "max_iter": 20}
            if name in closed:
                return closed[name]
        return super()._setting(name)

    # Both designs: columns of X, transformed, in units of their standard deviations.

    def _parse(self, X, y="no_validation", *, reset):
        inputs, y = super()._parse(X, y, reset=reset)
        return (inputs, y) if reset else (self._designs(inputs[0]), y)

    def _encode(self, X, y, sample_weight, *, reset):
        data = super()._encode(X, y, sample_weight, reset=reset)
        if not reset:
            return data
        X = data.inputs[0].numpy()
        weight = None if data.weight is None else data.weight.numpy().astype(np.float64)
        self._fit_designs(X, weight)
        return data._replace(inputs=tuple(map(torch.from_numpy, self._designs(X))))

    def _fit_designs(self, X, weight):
        names = getattr(self, "feature_names_in_", None)
        self._columns = {
            which: column_numbers(getattr(self, which), X.shape[1], names, which)
            for which in ("structured_features", "deep_features")
        }
        if not len(self._columns["structured_features"]):
            raise ValueError("structured_features is empty: there is no additive part to fit")
        self.structured_transformer_ = self._make_transformer()
        structured = X[:, self._columns["structured_features"]]
        self.structured_transformer_.fit(structured.astype(np.float64))
        self._structured_scaler = StandardScaler().fit(self._basis(X), sample_weight=weight)
        self._scaler = StandardScaler().fit(X.astype(np.float64), sample_weight=weight)

    def _make_transformer(self):
        if self.structured == "linear":
            return FunctionTransformer(feature_names_out="one-to-one")
        if self.structured == "spline":
            return SplineTransformer(
                self.n_knots, self.degree, include_bias=False, extrapolation="linear"
            )
        return clone(self.structured)

    def _basis(self, X):
        structured = X[:, self._columns["structured_features"]].astype(np.float64)
        basis = self.structured_transformer_.transform(structured)
        return np.asarray(basis.toarray() if hasattr(basis, "toarray") else basis, np.float64)

    def _designs(self, X):
        structured = self._structured_scaler.transform(self._basis(X))
        deep = self._scaler.transform(X.astype(np.float64))[:, self._columns["deep_features"]]
        return structured.astype(X.dtype), deep.astype(X.dtype)

    def _penalty(self):
        """The quadratic form of the smoothing penalty, in the units of the design; or None."""
        if self.structured != "spline" or not self.smoothing:
            return None
        scale = self._structured_scaler.scale_
        block = second_differences(self.n_knots + self.degree - 1)
        n_features = len(self._columns["structured_features"])
        S = np.zeros((len(scale) + 1, len(scale) + 1))
        S[1:, 1:] = np.kron(np.eye(n_features), block) / np.outer(scale, scale)
        return self.smoothing * S

    # Training.

    def _make_module(self):
        net = None
        if has_network(self):
            sizes = self._layer_sizes()
            settings = {"activation": self.activation, "dropout": self.dropout}
            net = make_mlp(
                len(self._columns["deep_features"]), sizes, self._n_outputs(), **settings
            )
        n_columns = len(self._structured_scaler.mean_)
        is_online = self.orthogonalization == "online"
        return SemiStructuredNet(net, n_columns, self._n_outputs(), is_online, self._penalty())

    def _on_fit_begin(self, module, data):
        base, response = self._working_response(data)
        start = np.zeros((module.coef.shape[0] + 1, len(base)))
        if self.init_structured == "least_squares" or not has_network(self):
            weight = row_weights(data)
            start = projection([(_with_ones(data.inputs[0]), response, weight)], module.penalty)
        start[0] += base
        module.set_structured(start)

    def _loss(self, module, batch):
        return super()._loss(module, batch) + module.roughness()

    def _split(self, data, rng):
        self._all_rows = data  # the projection is one of all rows, validation included
        return super()._split(data, rng)

    # After training.

    def _on_fit_end(self, data):
        data = vars(self).pop("_all_rows", data)
        module = self.module_
        n_columns, n_outputs = module.coef.shape[0], module.coef.shape[1]
        alpha = np.zeros((n_columns + 1, n_outputs))
        if module.net is not None and self.orthogonalization != "none":
            rows = ((Z, g, weight) for Z, g, weight, _ in self._chunks(data))
            alpha = projection(rows, module.penalty)
        module.set_alpha(alpha)
        raw = module.structured().double().cpu().numpy()
        total = raw + alpha if self.orthogonalization == "post" else raw
        self._store(raw, alpha, total)
        self._summarise(data, total, alpha)

    def _chunks(self, data):
        """Designs with a column of ones, network outputs, weights and targets."""
        module, device = self.module_, self._device()
        sizes = [_CHUNK] * (data.n_rows // _CHUNK) + [data.n_rows % _CHUNK]
        for part in data.split([size for size in sizes if size]):
            part = part.to(device)
            g = module.network(part.inputs[1]).double().cpu().numpy()
            y = part.y.cpu().numpy()
            yield _with_ones(part.inputs[0]), g, row_weights(part), y

    def _store(self, raw, alpha, total):
        self._total = total
        self.coef_, self.intercept_ = self._in_units(total)
        self.coef_raw_, _ = self._in_units(raw)
        self.alpha_, _ = self._in_units(alpha)

    def _in_units(self, coef):
        """Slopes and intercept for the columns and the target as they were given."""
        mean, scale = self._structured_scaler.mean_, self._structured_scaler.scale_
        shift, factor = self._units()
        slopes = (coef[1:] / scale[:, None]) @ self._contrast() * factor
        intercept = coef[0] @ self._contrast() * factor + shift - mean @ slopes
        return self._flat(slopes.T, 0), self._flat(intercept, 0)

    def _summarise(self, data, total, alpha):
        """The share of the network in the variance, and errors of the coefficients."""
        sums, contrast = 0.0, self._contrast()
        bread, meat = 0.0, 0.0
        for Z, g, weight, y in self._chunks(data):
            deep = g - Z @ alpha
            both = np.stack([deep @ contrast, (Z @ total + deep) @ contrast])
            sums = sums + np.stack([both * weight[:, None], both**2 * weight[:, None]]).sum(axis=2)
            bread = bread + Z.T @ (Z * weight[:, None])
            if self._is_gaussian():
                squares = weight[:, None] * (y - Z @ total - deep) ** 2
                meat = meat + np.stack([Z.T @ (Z * s[:, None]) for s in squares.T])
        n = bread[0, 0]
        variance = sums[1] / n - (sums[0] / n) ** 2
        share = variance[0] / np.where(variance[1] > 0, variance[1], 1)
        self.deep_share_ = self._flat(np.clip(share, 0, None), 0)
        if self._is_gaussian():
            inverse = np.linalg.pinv(bread, hermitian=True)
            errors = np.sqrt(np.clip(np.einsum("ij,kjl,li->ki", inverse, meat, inverse), 0, None))
            _, factor = self._units()
            in_units = errors[:, 1:] / self._structured_scaler.scale_ * np.reshape(factor, (-1, 1))
            self.coef_std_ = self._flat(in_units, 0)

    # What is said about rows.

    def predictor(self, X, part="full"):
        """Compute the predictor, or one part of it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        part : {"full", "structured", "deep"}, default="full"
            "structured" is the additive part with its intercept, "deep" what the network adds.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predictor: the mean itself, its logarithm (families "poisson" and "gamma"), or
            logits; with two classes, the log-odds of the second.
        """
        if part not in ("full", "structured", "deep"):
            raise ValueError(f"part must be 'full', 'structured' or 'deep', got {part!r}")
        position = ("structured", "deep").index(part) if part != "full" else None

        def compute(module, inputs):
            parts = module.parts(*inputs, self.orthogonalization)
            return sum(parts) if position is None else parts[position]

        eta = self._predict(compute, X)
        shift, factor = self._units()
        values = eta @ self._contrast() * factor + (0 if part == "deep" else shift)
        return self._flat(values.astype(eta.dtype, copy=False), 1)

    def partial_effect(self, X, feature):
        """Compute what the additive part adds for one feature.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        feature : int or str
            One of the structured features, by its position in X or its name.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The effect, of mean zero on the training data.

        Raises
        ------
        ValueError
            If the feature is not a structured one, or `structured` is a transformer of yours.
        """
        inputs, _ = self._parse(X, reset=False)
        if not isinstance(self.structured, str):
            raise ValueError("partial_effect is for structured='linear' and structured='spline'")
        names = getattr(self, "feature_names_in_", None)
        column = column_numbers([feature], self.n_features_in_, names, "feature")[0]
        place = np.flatnonzero(self._columns["structured_features"] == column)
        if not len(place):
            raise ValueError(f"feature={feature!r} is not one of the structured features")
        Z = inputs[0]
        width = Z.shape[1] // len(self._columns["structured_features"])
        block = slice(place[0] * width, (place[0] + 1) * width)
        effect = Z[:, block].astype(np.float64) @ self._total[1:][block]
        _, factor = self._units()
        return self._flat((effect @ self._contrast() * factor).astype(Z.dtype), 1)


def _with_ones(Z):
    Z = Z.double().cpu().numpy()
    return np.hstack([np.ones((len(Z), 1)), Z])


def row_weights(data):
    """Weights of the rows as an array, ones where there are none."""
    return np.ones(data.n_rows) if data.weight is None else data.weight.double().cpu().numpy()


def column_numbers(selection, n_columns, names, label):
    """Positions of columns given by position or name; None for all."""
    if selection is None:
        return np.arange(n_columns)
    numbers = []
    for column in selection:
        if isinstance(column, str):
            found = [] if names is None else np.flatnonzero(names == column)
        else:
            found = np.arange(n_columns)[column : column + 1] if _is_position(column) else []
        if len(found) != 1:
            raise ValueError(f"{label} has {column!r}, which is no column of X")
        numbers.append(found[0])
    return np.array(numbers, dtype=np.intp)


def _is_position(column):
    return isinstance(column, Integral) and not isinstance(column, bool) and column >= 0
