"""What the optimizers share: options, the closure, and lists of tensors of one kind."""

import torch
from sklearn.utils._param_validation import validate_parameter_constraints

__all__ = [
    "check_options",
    "chunks",
    "evaluate",
    "gradients",
    "keep_types",
    "wide_dtype",
    "zeros_state",
]

_CPU_CHUNK = 2**18  # entries of which a handful of temporaries stay in the cache


def check_options(options, constraints, name):
    """Raise a ValueError that names the first option outside its constraint.

    ``betas`` are checked besides: two numbers in [0, 1).
    """
    validate_parameter_constraints(constraints, options, caller_name=name)
    betas = options.get("betas", (0.0, 0.0))
    if not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        raise ValueError(f"betas of {name} must be two numbers in [0, 1), got {betas!r}")


def evaluate(closure):
    """Value of the closure, which computes gradients, or None."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def gradients(group):
    """Parameters of a group that have a gradient, and the gradients of what is minimised."""
    params = [p for p in group["params"] if p.grad is not None]
    grads = [p.grad for p in params]
    if any(g.is_sparse for g in grads):
        raise RuntimeError("sparse gradients are not supported; use dense embeddings")
    return params, list(torch._foreach_neg(grads)) if grads and group.get("maximize") else grads


def wide_dtype(dtype):
    """Type in which sums of squares of `dtype` keep their digits: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def zeros_state(optimizer, params, name, dtype=None):
    """Buffers of the parameters, of zeros where they are new.

    `dtype` is a type, or a function from that of the parameter to it; None for the same.
    """
    for p in params:
        if name not in optimizer.state[p]:
            own = dtype(p.dtype) if callable(dtype) else dtype
            optimizer.state[p][name] = torch.zeros_like(p, dtype=own)
    return [optimizer.state[p][name] for p in params]


def keep_types(optimizer, state_dict, names):
    """Give loaded buffers the types they had; torch casts them to that of the parameter."""
    for group, saved in zip(optimizer.param_groups, state_dict["param_groups"]):
        for p, index in zip(group["params"], saved["params"]):
            buffers = state_dict["state"].get(index, {})
            for name in buffers.keys() & set(names):
                optimizer.state[p][name] = buffers[name].to(p.device, copy=True)


def chunks(*lists):
    """Split lists of tensors alike, so that a chunk has one device and dtype.

    On a GPU one chunk holds all there is, for the fewest kernels; on a CPU it holds what fits
    the cache, which a chain of operations then passes through faster.
    """
    groups = {}
    for row in zip(*lists):
        key = tuple((tensor.device, tensor.dtype) for tensor in row)
        groups.setdefault(key, []).append(row)
    for rows in groups.values():
        yield from (tuple(map(list, zip(*part))) for part in _parts(rows))


def _parts(rows):
    if rows[0][0].is_cuda:
        yield rows
        return
    part, size = [], 0
    for row in rows:
        if part and size + row[0].numel() > _CPU_CHUNK:
            yield part
            part, size = [], 0
        part.append(row)
        size += row[0].numel()
    yield part
