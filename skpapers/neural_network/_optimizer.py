"""From a name to an optimizer over the parameter groups of a module."""

import inspect

from torch.optim import ASGD, SGD

from ._registry import get_registry

__all__ = ["make_optimizer", "parameter_groups"]

_LINEAR_IN_GRADIENTS = (SGD, ASGD)


def make_optimizer(module, optimizer, *, lr, weight_decay=0.0, params=None):
    """Build an optimizer; torch's fused implementation is used where there is one.

    Parameters
    ----------
    module : torch.nn.Module
        Whose parameters are optimized.
    optimizer : str or callable
        A registered name, an optimizer class, or a factory of the same signature.
    lr : float
        Learning rate.
    weight_decay : float, default=0.0
        Weight decay of matrices; biases and the parameters of normalisations have none.
    params : dict, default=None
        Further arguments of the optimizer.

    Returns
    -------
    torch.optim.Optimizer
        The optimizer.
    """
    factory = get_registry("optimizer").resolve(optimizer)
    accepted = inspect.signature(factory).parameters
    params = dict(params or {})
    if "fused" in accepted and "foreach" not in params:
        params.setdefault("fused", True)
    eps = params.get("eps", accepted["eps"].default) if "eps" in accepted else None
    groups = parameter_groups(module, lr, weight_decay, _width_kind(factory), eps)
    if "weight_decay" not in accepted:
        groups = _without_decay(groups, optimizer)
    if len(groups) == 1:  # some optimizers (LBFGS) know no groups
        (group,) = groups
        groups, params = group.pop("params"), {**group, **params}
    return factory(groups, **{"lr": lr, **params})


def _without_decay(groups, optimizer):
    if any(group.pop("weight_decay") for group in groups):
        raise ValueError(f"optimizer={optimizer!r} has no weight decay: set weight_decay=0")
    return groups


def _width_kind(factory):
    """Which column of :func:`width_scaling` holds for an optimizer."""
    is_linear = isinstance(factory, type) and issubclass(factory, _LINEAR_IN_GRADIENTS)
    return getattr(factory, "width_kind", "sgd" if is_linear else "adam")


def parameter_groups(module, lr, weight_decay, width_kind="adam", eps=None):
    """Group the trainable parameters by their options.

    A submodule may say what holds for its own parameters in an attribute
    ``optimizer_options = {"name": {"lr": float, "lr_scale": float, "weight_decay": float}}``;
    ``lr`` there is an upper bound, ``lr_scale`` a factor. A linear layer with a `width_role` says
    how options scale with the width, its own and those of the layers up to the next one.
    """
    groups, seen, role = {}, set(), None
    for layer in module.modules():
        declared = getattr(layer, "optimizer_options", {})
        role = getattr(layer, "width_role", role)
        for name, parameter in layer.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            own = declared.get(name, {})
            decay = own.get("weight_decay", _decay(parameter, weight_decay))
            options = {"lr": _rate(lr, own), "weight_decay": decay}
            if role is not None:
                options |= _scaled(options, role.of(parameter).scaling(width_kind), eps)
            groups.setdefault(tuple(options.items()), []).append(parameter)
    return [{"params": parameters, **dict(key)} for key, parameters in groups.items()]


def _scaled(options, factors, eps):
    scaled = {name: value * factors[name] for name, value in options.items()}
    return scaled if eps is None else scaled | {"eps": eps * factors["eps"]}


def _rate(lr, options):
    return min(lr, options.get("lr", lr)) * options.get("lr_scale", 1.0)


def _decay(parameter, weight_decay):
    return weight_decay if parameter.ndim > 1 else 0.0
