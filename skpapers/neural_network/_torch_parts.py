"""The parts that torch brings, under their names."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler

from skpapers.optim import CosineWarmRestarts

from ._registry import register

_ACTIVATIONS = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "log_sigmoid": nn.LogSigmoid,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "tanhshrink": nn.Tanhshrink,
    "softshrink": nn.Softshrink,
    "hardshrink": nn.Hardshrink,
    "hard_tanh": nn.Hardtanh,
    "hard_swish": nn.Hardswish,
    "hard_sigmoid": nn.Hardsigmoid,
}
_OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rprop": torch.optim.Rprop,
    "lbfgs": torch.optim.LBFGS,
}


def _no_normalization(n_features):
    return None


def _group_norm(n_features, num_groups=None):
    return nn.GroupNorm(num_groups or _largest_divisor(n_features, 8), n_features)


def _largest_divisor(n, at_most):
    return next(k for k in range(min(at_most, n), 0, -1) if n % k == 0)


_NORMALIZATIONS = {
    "none": _no_normalization,
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "rms": nn.RMSNorm,
    "group": _group_norm,
}


def _squared_error(output, target, reduction):
    return _per_row(F.mse_loss(output, target, reduction=reduction))


def _absolute_error(output, target, reduction):
    return _per_row(F.l1_loss(output, target, reduction=reduction))


def _huber(output, target, reduction, delta=1.0):
    return _per_row(F.huber_loss(output, target, reduction=reduction, delta=delta))


def _per_row(loss):
    """Average over the outputs of a row; a scalar is the mean already."""
    return loss.flatten(1).mean(1) if loss.ndim else loss


_LOSSES = {
    "cross_entropy": F.cross_entropy,
    "squared_error": _squared_error,
    "absolute_error": _absolute_error,
    "huber": _huber,
}


def _cosine(optimizer, epochs):
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)


def _step(optimizer, epochs, n_steps=3, gamma=0.1):
    return lr_scheduler.StepLR(optimizer, step_size=max(1, epochs // n_steps), gamma=gamma)


def _exponential(optimizer, epochs, final=0.01):
    return lr_scheduler.ExponentialLR(optimizer, gamma=final ** (1 / epochs))


def _linear(optimizer, epochs, final=0.0):
    return lr_scheduler.LinearLR(optimizer, 1.0, final, total_iters=epochs)


def _cosine_restarts(optimizer, epochs, steps_per_epoch, t_0=10, t_mult=2):
    return CosineWarmRestarts(optimizer, t_0, t_mult, steps_per_epoch)


_SCHEDULES = {
    "cosine": _cosine,
    "cosine_restarts": _cosine_restarts,
    "step": _step,
    "exponential": _exponential,
    "linear": _linear,
}

_PARTS = {
    "activation": _ACTIVATIONS,
    "normalization": _NORMALIZATIONS,
    "loss": _LOSSES,
    "optimizer": _OPTIMIZERS,
    "schedule": _SCHEDULES,
}
for _kind, _parts in _PARTS.items():
    for _name, _factory in _parts.items():
        register(_kind, _name, _factory)
