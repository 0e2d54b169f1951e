"""Tangent features of a network: its Jacobian with respect to the weights, and their kernel.

The features of n rows are a tuple of parts ``(inputs, gradients)`` of shapes (n, a) and
(n_outputs, n, b); the kernel of output c is the sum over the parts of the product of the Gram
matrices ``inputs @ inputs.T`` and ``gradients[c] @ gradients[c].T``. The Jacobian of a linear
layer is an outer product, so that its part is what comes in and the gradient with respect to what
goes out, a + b numbers a row where the Jacobian itself has a * b.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

__all__ = ["TangentMap", "kernel", "kernel_diagonal", "network_outputs", "tangent_map"]


class TangentMap(NamedTuple):
    """A network in eval mode, and which of its weights the features are derivatives by.

    `layers` are the linear layers that own all of these weights, or None where there are others.
    """

    module: nn.Module
    names: list
    layers: list | None

    def __call__(self, X):
        """Outputs (n, n_outputs) and features of the rows of X, detached."""
        if self.layers is None:
            return network_outputs(self.module, X), _dense_features(self.module, self.names, X)
        return _layer_features(self.module, self.layers, X)


def tangent_map(module, rows, jacobian="full"):
    """Choose the weights, and the cheaper of two ways to differentiate that is right on `rows`."""
    names = _weight_names(module, jacobian)
    layers = _owning_linear_layers(module, names)
    if layers is None or not _layers_suffice(module, names, layers, rows):
        layers = None
    return TangentMap(module, names, layers)


def network_outputs(module, X):
    """Outputs of the rows of X as a matrix, detached."""
    with torch.no_grad():
        return module(X).reshape(len(X), -1)


def kernel(first, second):
    """Tangent kernel between two sets of rows, (n_outputs, n_first, n_second)."""
    total = 0
    for (inputs, gradients), (other_inputs, other_gradients) in zip(first, second):
        total = total + (inputs @ other_inputs.T) * (gradients @ other_gradients.mT)
    return total


def kernel_diagonal(features):
    """Tangent kernel of each row with itself, (n_outputs, n)."""
    squares = [inputs.square().sum(1) * grads.square().sum(2) for inputs, grads in features]
    return torch.stack(squares).sum(0)


def _weight_names(module, jacobian):
    """Names of the trainable parameters; "last_layer" keeps those of the last layer that has any.

    The order is that of registration, as in ``module.named_parameters()``.
    """
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    if not names:
        raise ValueError("module has no trainable parameters, and so no tangent kernel")
    if jacobian == "last_layer":
        owner = names[-1].rpartition(".")[0]
        names = [name for name in names if name.rpartition(".")[0] == owner]
    return names


def _owning_linear_layers(module, names):
    """The linear layers whose weights and biases are `names` and nothing else, or None."""
    owners = dict.fromkeys(name.rpartition(".")[0] for name in names)
    layers = [module.get_submodule(owner) for owner in owners]
    owned = sum(len(list(layer.parameters(recurse=False))) for layer in layers)
    linear = all(type(layer) is nn.Linear for layer in layers)
    return layers if linear and owned == len(names) else None


def _layer_features(module, layers, X):
    outputs, calls = _recorded(module, layers, X)
    each = torch.eye(outputs.shape[1], dtype=X.dtype, device=X.device)[:, None, :]
    gradients = torch.autograd.grad(
        outputs,
        [out for _, _, out in calls],
        each.expand(-1, len(X), -1),
        is_grads_batched=True,
        materialize_grads=True,
    )
    pairs = zip(calls, gradients)
    return outputs.detach(), tuple((_with_bias(layer, x), g) for (layer, x, _), g in pairs)


def _recorded(module, layers, X):
    """Outputs, and the layers in the order of their calls with what came in and went out."""
    calls = []

    def record(layer, args, output):
        calls.append((layer, args[0].detach(), output))

    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        with torch.enable_grad():
            outputs = module(X).reshape(len(X), -1)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, calls


def _with_bias(layer, inputs):
    return inputs if layer.bias is None else nn.functional.pad(inputs, (0, 1), value=1.0)


def _layers_suffice(module, names, layers, rows):
    """Whether the features of the layers give the kernel of the weights on these rows.

    They do not where a layer is called twice or its weights are used elsewhere, where an operation
    in place overwrites what it gave, or where inputs of a layer are no rows.
    """
    _, calls = _recorded(module, layers, rows)
    n_rows = len(rows)
    if len(calls) != len(layers) or any(x.ndim != 2 or len(x) != n_rows for _, x, _ in calls):
        return False
    features = _layer_features(module, layers, rows)[1]
    dense = _dense_features(module, names, rows)
    return torch.allclose(kernel(features, features), kernel(dense, dense), rtol=1e-6)


def _dense_features(module, names, X):
    """One part: the Jacobian of every row, as a matrix an output."""
    weights = {name: module.get_parameter(name).detach() for name in names}

    def row_outputs(weights, x):
        return functional_call(module, weights, (x[None],)).reshape(-1)

    jacobians = vmap(jacrev(row_outputs), (None, 0))(weights, X)
    flat = torch.cat([jacobian.flatten(2) for jacobian in jacobians.values()], 2)
    return ((X.new_ones(len(X), 1), flat.transpose(0, 1).detach()),)
