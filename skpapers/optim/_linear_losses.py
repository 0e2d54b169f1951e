"""Losses of linear models as functions of the margins: values, gradients and curvatures.

A loss is a mean over rows with weights that sum to 1. Margins have a column for each output. Each
also gives the constants (M, nu) of generalised self-concordance.
"""

import math

import numpy as np
from scipy.special import expit, log_softmax, softmax, xlogy

__all__ = ["LogisticLoss", "PoissonLoss", "SoftmaxLoss", "SquaredLoss"]


class LogisticLoss:
    """``log(1 + exp(-s m))`` with s = 1 or -1."""

    def __init__(self, y, weight):
        self.sign, self.weight = 2.0 * y[:, None] - 1, weight[:, None]

    def value(self, margins):
        return float(np.sum(self.weight * np.logaddexp(0, -self.sign * margins)))

    def gradient(self, margins):
        return -self.weight * self.sign * expit(-self.sign * margins)

    def curvature(self, margins, direction):
        spread = expit(margins) * expit(-margins)
        return float(np.sum(self.weight * spread * direction**2))

    def intercept_hessian(self, margins):
        return np.sum(self.weight * expit(margins) * expit(-margins), keepdims=True)

    def concordance(self, largest_row):
        return largest_row, 2


class SoftmaxLoss:
    """Cross-entropy of the softmax of the margins."""

    def __init__(self, y, weight, n_classes):
        self.target, self.weight = np.eye(n_classes)[y], weight[:, None]

    def value(self, margins):
        return float(-np.sum(self.weight * self.target * log_softmax(margins, axis=1)))

    def gradient(self, margins):
        return self.weight * (softmax(margins, axis=1) - self.target)

    def curvature(self, margins, direction):
        share = softmax(margins, axis=1)
        mean = np.sum(share * direction, axis=1, keepdims=True)
        return float(np.sum(self.weight * share * (direction - mean) ** 2))

    def intercept_hessian(self, margins):
        share = softmax(margins, axis=1)
        hessian = np.diag((self.weight * share).sum(0)) - (self.weight * share).T @ share
        return hessian + 1 / len(hessian) ** 2  # a shift of all intercepts changes nothing

    def concordance(self, largest_row):
        return math.sqrt(2) * largest_row, 2


class SquaredLoss:
    """Half the squared error."""

    def __init__(self, y, weight):
        self.target, self.weight = y[:, None], weight[:, None]

    def value(self, margins):
        return float(np.sum(self.weight * (margins - self.target) ** 2) / 2)

    def gradient(self, margins):
        return self.weight * (margins - self.target)

    def curvature(self, margins, direction):
        return float(np.sum(self.weight * direction**2))

    def intercept_hessian(self, margins):
        return np.ones((1, 1))

    def concordance(self, largest_row):
        return 0.0, 2


class PoissonLoss:
    """``m - y log m``, infinite unless m > 0 where y > 0 and m >= 0 elsewhere.

    With `divergence` also ``y log y - y``, the Kullback-Leibler divergence, never negative.
    """

    def __init__(self, y, weight, divergence=False):
        self.target, self.weight = y[:, None], weight[:, None]
        self.constant = float(np.sum(weight * (xlogy(y, y) - y))) if divergence else 0.0

    def value(self, margins):
        if (margins < 0).any() or (margins[self.target > 0] == 0).any():
            return math.inf
        logarithms = xlogy(self.target, margins)
        return float(np.sum(self.weight * (margins - logarithms))) + self.constant

    def gradient(self, margins):
        return self.weight * (1 - self._over(margins))

    def curvature(self, margins, direction):
        ratio = np.divide(direction, margins, out=np.zeros_like(margins), where=margins > 0)
        return float(np.sum(self.weight * self.target * ratio**2))

    def _over(self, margins):
        positive = self.target > 0
        return np.divide(self.target, margins, out=np.zeros_like(margins), where=positive)

    def concordance(self, largest_row):
        scales = (self.weight * self.target)[self.target > 0]
        return (2 / math.sqrt(scales.min()) if scales.size else 0.0), 3
