"""Names for the parts of a network, so that a search can choose among them."""

import ast
import copy
import difflib
import functools
import importlib
import inspect
import pkgutil

import torch
from torch import nn

__all__ = ["Registry", "get_registry", "register"]


class Registry:
    """Names of one kind of part.

    Parameters
    ----------
    kind : str
        What the names stand for, as error messages say it.

    Examples
    --------
    >>> from skpapers.neural_network import Registry
    >>> colours = Registry("colour")
    >>> colours.register("red", dict)
    <class 'dict'>
    >>> colours.resolve("red(hue=0)")()
    {'hue': 0}
    """

    def __init__(self, kind):
        self.kind = kind
        self._factories = {}

    def register(self, name, factory):
        """Add `factory` under `name`.

        Parameters
        ----------
        name : str
            The name users write.
        factory : callable
            What the name stands for: a class, or a function that builds the part.

        Returns
        -------
        callable
            `factory`.
        """
        if self._factories.get(name, factory) is not factory:
            raise ValueError(f"{self.kind} {name!r} is registered already")
        self._factories[name] = factory
        return factory

    def names(self):
        """List the names.

        Returns
        -------
        list of str
            The names, sorted.
        """
        _import_parts()
        return sorted(self._factories)

    def resolve(self, value):
        """Return the factory that `value` stands for.

        Parameters
        ----------
        value : str, callable or torch.nn.Module
            A name, which may carry parameters as in ``"leaky_relu(negative_slope=0.2)"``; a class
            or function, returned as it is; or a module, of which the factory makes copies.

        Returns
        -------
        callable
            The factory.

        Raises
        ------
        ValueError
            If the name is unknown; the nearest names are given.
        """
        if isinstance(value, nn.Module):
            return lambda: copy.deepcopy(value)
        if callable(value):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{self.kind} must be a name, a class or a module; got {value!r}")
        name, params = _parse(value)
        if name not in self._factories:
            _import_parts()
        if name not in self._factories:
            raise ValueError(f"unknown {self.kind} {value!r}{self._nearest(name)}")
        factory = self._factories[name]
        return functools.partial(factory, **params) if params else factory

    def _nearest(self, name):
        near = difflib.get_close_matches(name, self._factories, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else ""
        return f"; {hint or 'known are ' + ', '.join(sorted(self._factories))}"


def _parse(text):
    """Split ``"name(key=value)"`` into the name and its literal keyword arguments."""
    name, bracket, _ = text.partition("(")
    if not bracket:
        return text, {}
    try:
        call = ast.parse(text, mode="eval").body
        return name, {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    except (AttributeError, SyntaxError, ValueError) as error:
        raise ValueError(f"{text!r} is not of the form name(key=value, ...)") from error


KINDS = (
    "activation",
    "block",
    "linear",
    "loss",
    "normalization",
    "optimizer",
    "parametrization",
    "schedule",
)
_REGISTRIES = {kind: Registry(kind) for kind in KINDS}


def get_registry(kind):
    """Return the registry of one kind of part.

    Parameters
    ----------
    kind : {"activation", "block", "linear", "loss", "normalization", "optimizer", \
"parametrization", "schedule"}
        The kind.

    Returns
    -------
    Registry
        With methods ``names``, ``resolve`` and ``register``.

    Examples
    --------
    >>> from skpapers.neural_network import get_registry
    >>> "gelu" in get_registry("activation").names()
    True
    """
    return _REGISTRIES[kind]


def register(kind, name, factory=None):
    """Register a part of a network under a name; also a decorator.

    Parameters
    ----------
    kind : {"activation", "block", "linear", "loss", "normalization", "optimizer", \
"parametrization", "schedule"}
        What it is.
    name : str
        The name users write, for example ``NeuralClassifier(activation=name)``.
    factory : callable, default=None
        The class or function; None to use this function as a decorator.

    Returns
    -------
    callable
        The factory, or a decorator.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import get_registry, register
    >>> @register("activation", "doc_square")
    ... class Square(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x.square()
    >>> get_registry("activation").resolve("doc_square") is Square
    True
    """
    if factory is None:
        return functools.partial(get_registry(kind).register, name)
    return get_registry(kind).register(name, factory)


@functools.cache
def _import_parts():
    """Import every module of this package, which registers its parts, and read the optimizers."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__, f"{__package__}."):
        importlib.import_module(module.name)
    optim = importlib.import_module(f"{__package__.partition('.')[0]}.optim")
    for symbol in (getattr(optim, name) for name in optim.__all__):
        if inspect.isclass(symbol) and issubclass(symbol, torch.optim.Optimizer):
            name = getattr(symbol, "registered_name", symbol.__name__.lower())
            register("optimizer", name, symbol)
