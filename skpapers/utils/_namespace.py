"""Array namespaces of fitted estimators."""

from sklearn import get_config
from sklearn.utils._array_api import _is_numpy_namespace, get_namespace_and_device

__all__ = ["check_same_namespace"]


def check_same_namespace(X, estimator, *, attribute, method):
    """Check that X lives where the estimator was fitted.

    Parameters
    ----------
    X : array-like
        Input of a method of the fitted estimator.
    estimator : estimator instance
        The fitted estimator.
    attribute : str
        Name of a fitted array attribute.
    method : str
        Name of the method, for the message.

    Raises
    ------
    ValueError
        If array API dispatch is on and namespace or device differ.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from skpapers.utils import check_same_namespace
    >>> model = Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    >>> check_same_namespace([[2.0]], model, attribute="coef_", method="predict")
    """
    if not get_config()["array_api_dispatch"]:
        return
    fitted, _, fitted_device = get_namespace_and_device(getattr(estimator, attribute))
    given, _, device = get_namespace_and_device(X)
    if _is_numpy_namespace(fitted) and _is_numpy_namespace(given):
        return  # sparse matrices and lists have no device
    if given != fitted or device != fitted_device:
        raise ValueError(
            f"Inputs passed to {type(estimator).__name__}.{method}() must use the same namespace "
            f"and the same device as those passed to fit(): fitted with {fitted.__name__} on "
            f"{fitted_device}, got {given.__name__} on {device}"
        )
