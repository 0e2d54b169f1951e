"""Optional dependencies."""

import importlib

__all__ = ["import_optional"]


def import_optional(module, extra):
    """Import an optional dependency, or say which extra brings it.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    extra : str
        The extra of skpapers that installs it.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        If the module is not installed; the message names the extra.

    Examples
    --------
    >>> from skpapers.utils import import_optional
    >>> import_optional("math", "graph").pi > 3
    True
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{package} is needed for this: pip install 'skpapers[{extra}]'"
        ) from error
