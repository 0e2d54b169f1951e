"""Find the public estimators and the public names of the library."""

import importlib
import inspect
import pkgutil

from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClusterMixin,
    OutlierMixin,
    RegressorMixin,
    TransformerMixin,
)

import skpapers

__all__ = ["all_estimators", "public_symbols", "rooms"]

_FOUNDATIONS = ("datasets", "processes", "structure")
_MIXINS = {
    "classifier": ClassifierMixin,
    "regressor": RegressorMixin,
    "cluster": ClusterMixin,
    "outlier": OutlierMixin,
    "transformer": TransformerMixin,
}


def rooms():
    """Name the sub-packages that hold papers.

    Returns
    -------
    list of str
        The names, sorted.

    Examples
    --------
    >>> from skpapers.utils.discovery import rooms
    >>> "kernel_methods" in rooms()
    True
    """
    packages = (m.name for m in pkgutil.iter_modules(skpapers.__path__) if m.ispkg)
    return sorted(n for n in packages if n[0] != "_" and n not in (*_FOUNDATIONS, "utils"))


def public_symbols():
    """List the public objects of every room and of what the rooms build on.

    Returns
    -------
    dict of str to object
        From the dotted name to the object, sorted by name.

    Examples
    --------
    >>> from skpapers.utils.discovery import public_symbols
    >>> "skpapers.cross_decomposition.SVCCA" in public_symbols()
    True
    """
    modules = [importlib.import_module(f"skpapers.{name}") for name in [*rooms(), *_FOUNDATIONS]]
    pairs = {f"{m.__name__}.{name}": getattr(m, name) for m in modules for name in m.__all__}
    return {k: pairs[k] for k in sorted(pairs) if not inspect.ismodule(pairs[k])}


def all_estimators(type_filter=None):
    """List the public estimators of the library.

    Parameters
    ----------
    type_filter : {"classifier", "regressor", "cluster", "outlier", "transformer"}, default=None
        Keep the estimators of one kind only.

    Returns
    -------
    list of tuple of (str, type)
        Class name and class, sorted by name.

    Raises
    ------
    ValueError
        If `type_filter` is not one of the names above.

    Examples
    --------
    >>> from skpapers.utils.discovery import all_estimators
    >>> dict(all_estimators("transformer"))["SVCCA"]
    <class 'skpapers.cross_decomposition._svcca.SVCCA'>
    """
    if type_filter is not None and type_filter not in _MIXINS:
        raise ValueError(
            f"type_filter must be one of {sorted(_MIXINS)} or None, got {type_filter!r}"
        )
    base = _MIXINS[type_filter] if type_filter else BaseEstimator
    classes = {symbol for symbol in public_symbols().values() if _is_estimator(symbol)}
    return sorted((c.__name__, c) for c in classes if issubclass(c, base))


def _is_estimator(symbol):
    if not (inspect.isclass(symbol) and issubclass(symbol, BaseEstimator)):
        return False
    return not inspect.isabstract(symbol)
