"""Linear circular optimal transport: Euclidean vectors for distributions of angles."""

from math import pi, sqrt
from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ._circle import (
    FLOATS,
    as_measures,
    check_row,
    embed,
    histogram_measures,
    is_ragged,
    pad,
    quantiles_on_grid,
    sample_measures,
)

__all__ = ["LinearCircularOT"]


class LinearCircularOT(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embed distributions of angles so that Euclidean distance is transport on the circle.

    Each row of X is a distribution on a circle: hours of events, directions, hues, phases. Its
    vector says how far the optimal transport from a reference moves each quantile. Unlike bins,
    the vectors know that near angles are near; unlike averages of sines and cosines, they keep
    the whole shape; and no pair of rows needs a transport problem of its own.

    Parameters
    ----------
    n_quantiles : int, default=200
        Number of quantiles of the reference, one column each.
    period : float, default=2*pi
        One turn, in the units of the angles: 24 for hours, 360 for degrees.
    input : {"samples", "histogram"}, default="samples"
        What a row is: angles, of which NaN are missing, or masses of equal bins of the circle,
        within which they are spread evenly. A histogram of zeros is the uniform distribution.
    reference : {"uniform", "mean"} or array-like of shape (n_angles,), default="uniform"
        Where transport starts: the uniform distribution, the mean of the training distributions,
        or a sample of angles, in units of `period`.
    embedding : {"displacement", "trig"}, default="displacement"
        Displacements, or their sines and cosines over 2 pi, which do not see whole turns. With
        the uniform reference, distances between displacements are at least those of
        :func:`pairwise_lcot`, and equal where no two displacements differ by more than half a
        turn; distances between sines and cosines are at most those, and close to them for near
        distributions. For narrow distributions "trig" is the better of the two.
    align : bool, default=False
        Whether to shift each vector so that its first Fourier coefficient has phase 0, which
        removes rotations up to the width of a column. Needs the uniform reference.

    Attributes
    ----------
    reference_ : ndarray of shape (n_quantiles,)
        Quantiles of the reference, in turns.
    quantiles_ : ndarray of shape (n_quantiles,)
        Their levels, (k + 1/2) / `n_quantiles`.
    n_features_in_ : int
        Number of angles or bins of a row; of the longest one of a list of arrays.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X had string column names.

    Notes
    -----
    With the uniform reference the best cut of the circle is the mean, on [0, 1), minus 1/2, and
    embedding m angles is O(m log m + `n_quantiles`). Another reference is replaced by its
    `n_quantiles` quantiles, and the cut is found by some 50 bisections.

    X may be a list of one-dimensional arrays, whose lengths may differ. Vectors are divided by
    the root of `n_quantiles`, so that their norm, with the displacements, is the circular
    Wasserstein-2 distance to the reference, in turns. With `align`, a distribution whose first
    coefficient is zero, such as one of two opposite angles, is left where it is.

    The gain over histograms is for few angles a row and methods that use distances. With dense
    samples and a linear classifier, histograms are as good.

    References
    ----------
    R. Diaz Martin, I. Medri, Y. Bai, X. Liu, K. Yan, G. K. Rohde, S. Kolouri, "LCOT: Linear
    Circular Optimal Transport", ICLR 2024, arXiv:2310.06002 (Sections 2 and 3).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import LinearCircularOT
    >>> hours = np.array([[23.0, 23.5, 0.0], [0.0, 0.5, 1.0], [11.0, 12.0, 13.0]])
    >>> E = LinearCircularOT(period=24, embedding="trig").fit_transform(hours)
    >>> distances = 24 * np.linalg.norm(E - E[:1], axis=1)
    >>> distances.round(1)
    array([0. , 1. , 7.5])
    """

    _parameter_constraints = {
        "n_quantiles": [Interval(Integral, 1, None, closed="left")],
        "period": [Interval(Real, 0, None, closed="neither")],
        "input": [StrOptions({"samples", "histogram"})],
        "reference": [StrOptions({"uniform", "mean"}), "array-like"],
        "embedding": [StrOptions({"displacement", "trig"})],
        "align": ["boolean"],
    }

    _search_space = {"n_quantiles": [25, 50, 100], "embedding": ["displacement", "trig"]}

    def __init__(
        self,
        n_quantiles=200,
        *,
        period=2 * pi,
        input="samples",
        reference="uniform",
        embedding="displacement",
        align=False,
    ):
        self.n_quantiles = n_quantiles
        self.period = period
        self.input = input
        self.reference = reference
        self.embedding = embedding
        self.align = align

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the reference.

        Parameters
        ----------
        X : array-like of shape (n_measures, n_features), or list of arrays of angles
            A distribution in each row.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If a row has no angle or a negative mass, or `align` is asked for without the uniform
            reference.
        """
        if self.align and not self._is_uniform():
            raise ValueError("align=True needs reference='uniform'")
        measures, _ = self._measures(X, reset=True)
        self.quantiles_ = (np.arange(self.n_quantiles) + 0.5) / self.n_quantiles
        self.reference_ = self._reference_quantiles(measures)
        self._n_features_out = self.n_quantiles * (2 if self.embedding == "trig" else 1)
        return self

    def _is_uniform(self):
        return isinstance(self.reference, str) and self.reference == "uniform"

    def _reference_quantiles(self, measures):
        if self._is_uniform():
            return self.quantiles_
        if isinstance(self.reference, str):
            measure = mean_measure(measures)
        else:
            angles = check_row(self.reference, "reference")
            measure = sample_measures(angles, None, self.period)
        return quantiles_on_grid(measure, np.zeros(1), self.n_quantiles)[0]

    def transform(self, X):
        """Embed distributions.

        Parameters
        ----------
        X : array-like of shape (n_measures, n_features), or list of arrays of angles
            A distribution in each row.

        Returns
        -------
        E : ndarray of shape (n_measures, n_quantiles) or (n_measures, 2 * n_quantiles)
            Displacements in turns over the root of n_quantiles; cosines, then sines, with
            ``embedding="trig"``.
        """
        check_is_fitted(self)
        measures, dtype = self._measures(X, reset=False)
        displacements = self._displacements(measures) / sqrt(self.n_quantiles)
        return self._encode(displacements).astype(dtype, copy=False)

    def _displacements(self, measures):
        if not self._is_uniform():
            cuts = optimal_cuts(measures, self.reference_)
            return quantiles_on_grid(measures, cuts, self.n_quantiles) - self.reference_
        displacements = embed(measures, self.n_quantiles)
        return remove_rotation(displacements) if self.align else displacements

    def _encode(self, scaled):
        if self.embedding == "displacement":
            return scaled
        size = sqrt(self.n_quantiles)
        angle = 2 * pi * size * scaled
        return np.hstack([np.cos(angle), np.sin(angle)]) / (2 * pi * size)

    def inverse_transform(self, X):
        """Give samples of the distributions that vectors stand for.

        Parameters
        ----------
        X : array-like of shape (n_measures, n_quantiles) or (n_measures, 2 * n_quantiles)
            Vectors as `transform` gives them, or means and combinations of such.

        Returns
        -------
        angles : ndarray of shape (n_measures, n_quantiles)
            Angles of equal mass, in [0, `period`), in the order of the quantiles of the reference.
        """
        check_is_fitted(self)
        E = check_array(X, dtype=FLOATS)
        if E.shape[1] != self._n_features_out:
            raise ValueError(f"X has {E.shape[1]} columns, expected {self._n_features_out}")
        if self.embedding == "trig":
            cosine, sine = np.hsplit(E, 2)
            displacements = np.arctan2(sine, cosine) / (2 * pi)
        else:
            displacements = E * sqrt(self.n_quantiles)
        turns = (self.reference_ + displacements) % 1
        angles = (np.where(turns == 1, 0.0, turns) * self.period).astype(E.dtype)
        return np.where(angles >= self.period, 0, angles)  # float32 rounds up

    def barycenter(self, X):
        """Give a sample of the distribution whose vector is the mean of those of X.

        Parameters
        ----------
        X : array-like of shape (n_measures, n_features), or list of arrays of angles
            A distribution in each row.

        Returns
        -------
        angles : ndarray of shape (n_quantiles,)
            Angles of equal mass, in [0, `period`).
        """
        check_is_fitted(self)
        measures, dtype = self._measures(X, reset=False)
        displacements = self._displacements(measures) / sqrt(self.n_quantiles)
        vector = self._encode(displacements).mean(axis=0, keepdims=True)
        return self.inverse_transform(vector.astype(dtype))[0]

    def _measures(self, X, reset):
        """The distributions of X, and the type of floats they were given in."""
        settings = {
            "dtype": FLOATS,
            "ensure_all_finite": "allow-nan" if self.input == "samples" else True,
        }
        if self.input == "samples" and is_ragged(X):
            X = pad(X)
            X = validate_data(self, X, **settings) if reset else check_array(X, **settings)
        else:
            X = validate_data(self, X, reset=reset, **settings)
        return as_measures(X, None, self.period, self.input), X.dtype

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.input == "samples"
        tags.input_tags.positive_only = self.input == "histogram"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def mean_measure(measures):
    """Mean of distributions, each of which counts the same."""
    if measures.width > 0:
        return histogram_measures(measures.mass.mean(axis=0, keepdims=True))
    return sample_measures(measures.start.reshape(1, -1), measures.mass.reshape(1, -1), 1.0)


def optimal_cuts(measures, reference):
    """Cuts that minimise the mean square displacement from atoms of equal mass.

    The derivative by the cut a of the cost is -2 times the integral over x in [0, 1) of
    ``Q(F(x) - a) - x``, with F the distribution function of the reference and Q the quantile
    function of the measure. It grows with a, and F takes only the values k / n.

    Parameters
    ----------
    measures : Measures
        Where transport ends.
    reference : ndarray of shape (n,)
        Where it starts: ascending atoms in turns.
    """
    n = len(reference)
    gaps = np.diff(reference, prepend=reference[-1] - 1)
    low = np.full(len(measures.level), -0.5 - reference.mean())
    high = low + 2  # a quantile is less than a turn from its level
    for _ in range(52):
        middle = (low + high) / 2
        too_low = quantiles_on_grid(measures, middle, n, offset=0) @ gaps > reference[-1] - 0.5
        low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
    return (low + high) / 2


def remove_rotation(displacements):
    """Shift each row so that its first Fourier coefficient is real and positive."""
    n = displacements.shape[1]
    coefficient = displacements @ np.exp(-2j * pi * np.arange(n) / n)
    phase = np.where(np.abs(coefficient) > 1e-9 * n, np.angle(coefficient), 0)
    shift = np.rint(n * phase / (2 * pi)).astype(np.int64)
    columns = (np.arange(n) - shift[:, None]) % n
    return np.take_along_axis(displacements, columns, axis=1)
