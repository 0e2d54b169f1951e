"""How difficult each row is: from the data, from the model itself, or from another model."""

from functools import partial
from math import ceil
from numbers import Integral

import numpy as np
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions, validate_params
from sklearn.utils.multiclass import type_of_target

from skpapers.utils import check_random_state, draw_seed, seed_estimator

from ._curriculum_batches import batches, train
from ._mlp import NeuralClassifier, NeuralRegressor

__all__ = ["compare_scores", "difficulty_scores"]

_N_NEIGHBORS = 10
_SCORING = [str, callable, "array-like"]


@validate_params(
    {
        "X": ["array-like"],
        "y": ["array-like"],
        "scoring": _SCORING,
        "estimator": [HasMethods(["fit", "partial_fit", "predict"]), None],
        "scorer": [HasMethods(["fit", "predict"]), "array-like", None],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "ensemble_size": [Interval(Integral, 1, None, closed="left")],
        "image_shape": [tuple, list, None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "task": [StrOptions({"auto", "classification", "regression"})],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def difficulty_scores(
    X,
    y,
    scoring="transfer",
    *,
    estimator=None,
    scorer=None,
    cv=5,
    ensemble_size=3,
    image_shape=None,
    max_epochs=20,
    batch_size=64,
    task="auto",
    random_state=None,
):
    """Compute how difficult each row is; low scores are easy.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or list of str
        Data, or texts, of which words are counted.
    y : array-like of shape (n_samples,)
        Target.
    scoring : str, list of str or callable, default="transfer"
        One score or several. "feature:distance": distance to the centroid of the own class over
        that to the nearest other one (regression: to the centroid of all). "feature:knn": share
        of the ten nearest neighbours with another label (regression: squared difference to their
        mean). "feature:norm": length of the row. "feature:std", "feature:entropy",
        "feature:edges": of the pixels of a row. "feature:length", "feature:rarity": number of
        words, and mean of minus the log frequency of the words, of rows of counts. "self": loss
        of a copy of `estimator` trained on all rows. "transfer": out-of-fold loss of `scorer`.
        "ensemble:self" and "ensemble:transfer": mean ranks of several of these. A function of
        ``(X, y)`` returns the scores itself.
    estimator : estimator, default=None
        With ``partial_fit``, for "self"; None for a network with default parameters.
    scorer : estimator or list of estimators, default=None
        For "transfer"; None for a linear model on standardised features. "ensemble:transfer"
        takes a list, or None for a linear model, nearest neighbours and a random forest.
    cv : int, default=5
        Number of folds of "transfer", at most the number of rows of the smallest class. If that
        is one, scores are those of a scorer that has seen all rows.
    ensemble_size : int, default=3
        Number of trainings of "ensemble:self".
    image_shape : tuple of int, default=None
        Shape of the image in a row: (height, width) or with more axes.
    max_epochs : int, default=20
        Passes over the data of "self".
    batch_size : int, default=64
        Rows in a batch of "self".
    task : {"auto", "classification", "regression"}, default="auto"
        Whether `y` are labels; "auto" goes by its values.
    random_state : int, RandomState instance or None, default=None
        Seed of folds and trainings.

    Returns
    -------
    dict of str to ndarray of shape (n_samples,)
        The scores by name; those of a function are named "callable".

    Raises
    ------
    ValueError
        If a name is unknown or does not suit the data.

    References
    ----------
    .. [1] H. T. Kesgin, M. F. Amasyali, "Development and Comparison of Scoring Functions in
       Curriculum Learning", 2022, arXiv:2202.06823.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.neural_network import difficulty_scores
    >>> X, y = load_iris(return_X_y=True)
    >>> scores = difficulty_scores(X, y, ["feature:knn", "transfer"], random_state=0)
    >>> bool(scores["transfer"][y == 0].mean() < scores["transfer"][y > 0].mean())
    True
    """
    if np.ndim(X) == 1 and all(isinstance(text, str) for text in X):
        X = CountVectorizer(token_pattern=r"\S+").fit_transform(X).toarray()
    X, y = check_array(X, dtype=[np.float64, np.float32]), column_or_1d(y)
    check_consistent_length(X, y)
    if task == "auto":
        task = "regression" if type_of_target(y) == "continuous" else "classification"
    context = {
        "is_labels": task == "classification",
        "estimator": estimator,
        "scorer": scorer,
        "cv": cv,
        "ensemble_size": ensemble_size,
        "image_shape": image_shape,
        "max_epochs": max_epochs,
        "batch_size": batch_size,
    }
    wanted = [scoring] if isinstance(scoring, str) or callable(scoring) else list(scoring)
    names = [name if isinstance(name, str) else "callable" for name in wanted]
    rng = check_random_state(random_state)
    return {n: score_rows(s, X, y, rng=rng, **context) for n, s in zip(names, wanted)}


@validate_params({"scores": [dict]}, prefer_skip_nested_validation=True)
def compare_scores(scores):
    """Compute the rank correlations between scores of difficulty.

    Parameters
    ----------
    scores : dict of str to array-like of shape (n_samples,)
        Scores by name, as of :func:`difficulty_scores`.

    Returns
    -------
    ndarray of shape (n_scores, n_scores)
        Spearman correlations, in the order of the names; 0 with scores that are all the same.

    Examples
    --------
    >>> from skpapers.neural_network import compare_scores
    >>> compare_scores({"a": [1, 2, 3], "b": [1, 4, 9], "c": [3, 2, 1]})[0]
    array([ 1.,  1., -1.])
    """
    ranks = np.stack([rankdata(values) for values in scores.values()])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1)
    ranks /= np.where(norms > 0, norms, 1)[:, None]
    return np.clip(ranks @ ranks.T, -1, 1).round(15)


def score_rows(scoring, X, y, *, rng, **context):
    """Scores of one kind, shape (n_samples,), or the mean ranks of a list of kinds."""
    if callable(scoring):
        scores = scoring(X, y)
    elif not isinstance(scoring, str):
        if not all(isinstance(name, str) or callable(name) for name in scoring):
            scores = scoring
        else:
            scores = mean_rank([score_rows(s, X, y, rng=rng, **context) for s in scoring])
    elif scoring in _SCORES:
        scores = _SCORES[scoring](X, y, rng=rng, **context)
    else:
        raise ValueError(f"scoring={scoring!r} is unknown; known are {', '.join(_SCORES)}")
    scores = column_or_1d(scores).astype(np.float64)
    if len(scores) != len(y) or not np.isfinite(scores).all():
        raise ValueError(f"scoring must give a finite number for each of the {len(y)} rows")
    return scores


def mean_rank(members):
    """Mean of the ranks, from 0 to 1."""
    return np.mean([(rankdata(m) - 0.5) / len(m) for m in members], axis=0)


# Features of the data.


def _distance(X, y, *, is_labels, **_):
    if not is_labels:
        return np.linalg.norm(X - X.mean(axis=0), axis=1)
    classes, index = np.unique(y, return_inverse=True)
    centroids = np.stack([X[index == k].mean(axis=0) for k in range(len(classes))])
    distances = np.stack([np.linalg.norm(X - c, axis=1) for c in centroids], axis=1)
    own = distances[np.arange(len(X)), index]
    distances[np.arange(len(X)), index] = np.inf
    nearest = distances.min(axis=1)
    return own / np.maximum(nearest, np.finfo(np.float64).tiny ** 0.5)


def _knn(X, y, *, is_labels, **_):
    n_neighbors = min(_N_NEIGHBORS, len(X) - 1)
    if n_neighbors == 0:
        return np.zeros(len(X))
    neighbors = NearestNeighbors(n_neighbors=n_neighbors).fit(X).kneighbors(return_distance=False)
    if is_labels:
        return (y[neighbors] != y[:, None]).mean(axis=1)
    return (y[neighbors].mean(axis=1) - y) ** 2


def _norm(X, y, **_):
    return np.linalg.norm(X, axis=1)


def _std(X, y, **_):
    return X.std(axis=1)


def _entropy(X, y, **_):
    """Entropy of the histogram of each row, 256 bins over the range of all."""
    low, spread = X.min(), np.ptp(X)
    bins = np.minimum((X - low) / (spread or 1) * 256, 255).astype(np.intp)
    cells = (bins + 256 * np.arange(len(X))[:, None]).ravel()
    share = np.bincount(cells, minlength=256 * len(X)).reshape(len(X), 256) / X.shape[1]
    return -(share * np.log(np.where(share > 0, share, 1))).sum(axis=1)


def _edges(X, y, *, image_shape, **_):
    """Mean length of the gradient of the image in each row."""
    if image_shape is None or np.prod(image_shape) != X.shape[1] or min(image_shape[:2]) < 2:
        raise ValueError(f"image_shape={image_shape} is no shape of {X.shape[1]} pixels")
    down, right = np.gradient(X.reshape(len(X), *image_shape), axis=(1, 2))
    return np.hypot(down, right).reshape(len(X), -1).mean(axis=1)


def _length(X, y, **_):
    _check_counts(X)
    return X.sum(axis=1)


def _rarity(X, y, **_):
    _check_counts(X)
    total = X.sum(axis=0)
    information = -np.log(np.where(total > 0, total, 1) / max(total.sum(), 1))
    return X @ information / np.maximum(X.sum(axis=1), 1)


def _check_counts(X):
    if X.min() < 0:
        raise ValueError("scoring by words needs rows of counts, but X has negative values")


# Losses of models.


def losses(model, X, y, is_labels):
    """Loss of each row under a fitted model."""
    if not is_labels:
        return (model.predict(X) - y) ** 2
    if hasattr(model, "predict_proba"):
        return label_losses(model.predict_proba(X), y, model.classes_, "predict_proba")
    return label_losses(model.decision_function(X), y, model.classes_, "decision_function")


def label_losses(output, y, classes, method):
    """Minus the log probability of the label, or minus the margin to the nearest other label."""
    if output.ndim == 1:
        output = np.stack([-output, output], axis=1)
    rows, index = np.arange(len(y)), np.searchsorted(classes, y)
    own = output[rows, index]
    if method == "predict_proba":
        return -np.log(np.maximum(own, np.finfo(np.float64).tiny))
    others = output.copy()
    others[rows, index] = -np.inf
    return others.max(axis=1) - own


def _self(X, y, *, rng, is_labels, estimator, max_epochs, batch_size, **_):
    model = new_model(estimator, is_labels, rng)
    classes = np.unique(y) if is_labels else None
    n_steps = max_epochs * ceil(len(X) / batch_size)
    rows = batches(np.arange(len(X)), np.full(n_steps, len(X)), batch_size, rng)
    return losses(train(model, X, y, rows, classes), X, y, is_labels)


def new_model(estimator, is_labels, rng):
    """An unfitted, seeded copy of the estimator, by default a network."""
    default = NeuralClassifier() if is_labels else NeuralRegressor()
    return seed_estimator(clone(default if estimator is None else estimator), rng)


def _transfer(X, y, *, rng, is_labels, scorer, cv, **_):
    if scorer is None:
        scorer = linear_model(is_labels)
    elif not hasattr(scorer, "fit"):
        raise ValueError("scoring='transfer' takes one scorer; for several 'ensemble:transfer'")
    scorer, seed = seed_estimator(clone(scorer), rng), draw_seed(rng)
    smallest = np.unique(y, return_counts=True)[1].min() if is_labels else len(X)
    if smallest < 2:
        return losses(scorer.fit(X, y), X, y, is_labels)
    make_folds = StratifiedKFold if is_labels else KFold
    folds = make_folds(min(cv, smallest), shuffle=True, random_state=seed)
    if not is_labels:
        return (cross_val_predict(scorer, X, y, cv=folds) - y) ** 2
    method = "predict_proba" if hasattr(scorer, "predict_proba") else "decision_function"
    output = cross_val_predict(scorer, X, y, cv=folds, method=method)
    return label_losses(output, y, np.unique(y), method)


def linear_model(is_labels):
    """A linear model on standardised features, penalised enough not to fit wrong labels."""
    model = (
        LogisticRegression(C=0.1, max_iter=1000) if is_labels else RidgeCV(np.logspace(-3, 3, 7))
    )
    return make_pipeline(StandardScaler(), model)


def _ensemble_self(X, y, *, ensemble_size, **context):
    return mean_rank([_self(X, y, **context) for _ in range(ensemble_size)])


def _ensemble_transfer(X, y, *, scorer, is_labels, **context):
    if hasattr(scorer, "fit"):
        raise ValueError("scoring='ensemble:transfer' takes a list of scorers")
    if scorer is None:
        neighbors = KNeighborsClassifier if is_labels else KNeighborsRegressor
        forest = RandomForestClassifier if is_labels else RandomForestRegressor
        near = make_pipeline(StandardScaler(), neighbors(min(_N_NEIGHBORS, (len(X) + 1) // 2)))
        scorer = [linear_model(is_labels), near, forest()]
    one = partial(_transfer, X, y, is_labels=is_labels, **context)
    return mean_rank([one(scorer=member) for member in scorer])


_SCORES = {
    "feature:distance": _distance,
    "feature:knn": _knn,
    "feature:norm": _norm,
    "feature:std": _std,
    "feature:entropy": _entropy,
    "feature:edges": _edges,
    "feature:length": _length,
    "feature:rarity": _rarity,
    "self": _self,
    "transfer": _transfer,
    "ensemble:self": _ensemble_self,
    "ensemble:transfer": _ensemble_transfer,
}
