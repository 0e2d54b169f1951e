"""Jacobians of the outputs of a network by its parameters: as a matrix, or by layers."""

from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.modules.module import register_module_forward_hook

from ._foreach import wide_dtype
from ._loss_curvature import evaluate_outputs

__all__ = ["LayeredJacobian", "MatrixJacobian", "observe", "output_jacobian"]


class Call(NamedTuple):
    """What a module with parameters was given, and what it returned."""

    module: nn.Module
    inputs: torch.Tensor
    output: torch.Tensor
    version: int  # of the output: changes in place would go unnoticed


def observe(closure, params, name, whole=None):
    """Outputs, loss function, and the calls of modules that own some of `params`.

    The call of the module `whole`, the network itself, is the last one, if there is one.
    """
    owned, calls = set(map(id, params)), []

    def hook(module, args, output):
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and _mixes_rows(module):
            raise ValueError(
                f"{name} needs rows that are independent of each other: put batch normalisation "
                "into eval mode, or use another normalisation"
            )
        if module is whole or any(id(p) in owned for p in module._parameters.values()):
            calls.append(Call(module, args[0] if args else None, output, output._version))

    handle = register_module_forward_hook(hook)
    try:
        output, loss_function = evaluate_outputs(closure, name)
    finally:
        handle.remove()
    return output, loss_function, calls


def _mixes_rows(norm):
    return norm.training or norm.running_mean is None


def output_jacobian(output, params, calls, kind, chunk_size, whole=None):
    """The Jacobian in its cheapest form, or in the one that is asked for."""
    layers = [call for call in calls if call.module._parameters]
    if kind != "vmap" and _are_linear(output, params, layers):
        return LayeredJacobian(output, params, layers)
    if kind == "analytic":
        raise ValueError(
            "jacobian='analytic' needs a network all of whose parameters belong to layers of "
            "type torch.nn.Linear that are used once, with an input of two dimensions"
        )
    if whole is not None and not any(map(_is_random, whole.modules())):
        return MatrixJacobian(_by_rows(output, params, calls[-1:], whole, chunk_size), params)
    return MatrixJacobian(_by_outputs(output, params, chunk_size), params)


def _is_random(module):
    """Whether a module draws numbers, which it could not repeat row by row."""
    is_dropout = isinstance(module, nn.modules.dropout._DropoutNd) or hasattr(module, "generator")
    return module.training and is_dropout


def _are_linear(output, params, calls):
    """Whether all parameters are those of linear layers, each called once on the rows."""
    owned = [id(p) for call in calls for p in call.module._parameters.values() if p is not None]
    return (
        len(set(owned)) == len(owned)
        and set(map(id, params)) <= set(owned)
        and all(_is_linear(call, len(output)) for call in calls)
    )


def _is_linear(call, n_rows):
    return (
        getattr(type(call.module), "forward", None) is nn.Linear.forward
        and call.inputs.ndim == 2
        and len(call.inputs) == n_rows
        and call.output._version == call.version
    )


def _by_outputs(output, params, chunk_size):
    """One backward pass of the batch for each output, several at a time."""
    cotangents = torch.eye(output.numel(), dtype=output.dtype, device=output.device)
    pieces = [
        torch.autograd.grad(
            output,
            params,
            part.view(-1, *output.shape),
            retain_graph=True,
            is_grads_batched=True,
            materialize_grads=True,
        )
        for part in cotangents.split(chunk_size or output.numel())
    ]
    return torch.cat([torch.cat([g.flatten(1) for g in piece], 1) for piece in pieces])


def _by_rows(output, params, last, whole, chunk_size):
    """One backward pass of a row for each output, several rows at a time."""
    seen = [call.output.data_ptr() for call in last if call.module is whole]
    if seen != [output.data_ptr()]:
        raise ValueError("the closure must return the output of the module of from_module")
    names = {id(p): name for name, p in whole.named_parameters()}
    own = {names[id(p)]: p.detach() for p in params}

    def outputs(own, row):
        return functional_call(whole, own, (row[None],)).flatten()

    rows = vmap(jacrev(outputs), in_dims=(None, 0), chunk_size=chunk_size)(own, last[0].inputs)
    return torch.cat([rows[name].flatten(2) for name in own], 2).flatten(0, 1)


class MatrixJacobian:
    """One row an output, of length the number of parameters."""

    def __init__(self, matrix, params):
        self.params, self.dtype = params, wide_dtype(matrix.dtype)
        self.matrix = matrix.to(self.dtype)

    def gram(self):
        return self.matrix @ self.matrix.T

    def times(self, tensors):
        return self.matrix @ torch.cat([t.reshape(-1).to(self.dtype) for t in tensors])

    def transposed_times(self, vector):
        flat = vector @ self.matrix
        pieces = flat.split([p.numel() for p in self.params])
        return [piece.view(p.shape) for piece, p in zip(pieces, self.params)]


class LayeredJacobian:
    """Inputs of the linear layers, and derivatives of the outputs by what the layers return.

    A row of the Jacobian is, layer by layer, the outer product of a row of each: with them its
    Gram matrix and products are had without it.
    """

    def __init__(self, output, params, calls):
        self.params, self.dtype = params, wide_dtype(output.dtype)
        self.calls = calls
        self.inputs = [call.inputs.detach().to(self.dtype) for call in calls]
        n_outputs = output[:1].numel()
        slopes = [self._slopes(output, j, n_outputs) for j in range(n_outputs)]
        # of shape (n_rows, n_outputs, width of the layer)
        self.slopes = [torch.stack(layer, 1).to(self.dtype) for layer in zip(*slopes)]
        place = {id(p): i for i, p in enumerate(params)}
        self.places = [
            (place.get(id(call.module.weight)), place.get(id(call.module.bias))) for call in calls
        ]

    def _slopes(self, output, j, n_outputs):
        """Derivatives of one output of each row."""
        cotangent = output.new_zeros(len(output), n_outputs)
        cotangent[:, j] = 1
        layers = [call.output for call in self.calls]
        return torch.autograd.grad(output, layers, cotangent.view_as(output), retain_graph=True)

    def gram(self):
        n_rows, n_outputs = self.slopes[0].shape[:2]
        total = 0
        for inputs, slopes, (weight, bias) in zip(self.inputs, self.slopes, self.places):
            product = inputs @ inputs.T if weight is not None else inputs.new_zeros(n_rows, n_rows)
            product = product + 1 if bias is not None else product
            flat = slopes.reshape(n_rows * n_outputs, -1)
            blocks = (flat @ flat.T).view(n_rows, n_outputs, n_rows, n_outputs)
            total = total + blocks * product[:, None, :, None]
        return total.reshape(n_rows * n_outputs, -1)

    def times(self, tensors):
        total = 0
        for inputs, slopes, (weight, bias) in zip(self.inputs, self.slopes, self.places):
            change = 0
            if weight is not None:
                change = inputs @ tensors[weight].to(self.dtype).T
            if bias is not None:
                change = change + tensors[bias].to(self.dtype)
            total = total + (slopes @ (change + torch.zeros_like(slopes[:, 0]))[:, :, None])
        return total.reshape(-1)

    def transposed_times(self, vector):
        result = [None] * len(self.params)
        for inputs, slopes, (weight, bias) in zip(self.inputs, self.slopes, self.places):
            weighted = (vector.view(len(slopes), 1, -1) @ slopes)[:, 0]
            if weight is not None:
                result[weight] = weighted.T @ inputs
            if bias is not None:
                result[bias] = weighted.sum(0)
        return result
