"""From a name to an optimizer over the parameter groups of a module."""

import inspect

from ._registry import get_registry

__all__ = ["make_optimizer", "parameter_groups"]


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
    groups = parameter_groups(module, lr, weight_decay)
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


def parameter_groups(module, lr, weight_decay):
    """Group the trainable parameters by their options.

    A submodule may say what holds for its own parameters in an attribute
    ``optimizer_options = {"name": {"lr": float, "lr_scale": float, "weight_decay": float}}``;
    ``lr`` there is an upper bound, ``lr_scale`` a factor.
    """
    groups, seen = {}, set()
    for layer in module.modules():
        options = getattr(layer, "optimizer_options", {})
        for name, parameter in layer.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            own = options.get(name, {})
            key = (_rate(lr, own), own.get("weight_decay", _decay(parameter, weight_decay)))
            groups.setdefault(key, []).append(parameter)
    return [{"params": p, "lr": r, "weight_decay": d} for (r, d), p in groups.items()]


def _rate(lr, options):
    return min(lr, options.get("lr", lr)) * options.get("lr_scale", 1.0)


def _decay(parameter, weight_decay):
    return weight_decay if parameter.ndim > 1 else 0.0
