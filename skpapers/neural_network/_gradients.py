"""Derivatives with respect to inputs, row by row."""

import torch

__all__ = ["field_divergence", "input_gradient"]


def input_gradient(function, x, *, create_graph=False):
    """Compute a function of rows and its gradient with respect to them.

    Works where gradients are switched off, inference mode included.

    Parameters
    ----------
    function : callable
        Maps (n, ...) to (n,); row i of the result depends on row i alone.
    x : torch.Tensor of shape (n, ...)
        Rows.
    create_graph : bool, default=False
        Keep the graph, to differentiate the gradient in turn.

    Returns
    -------
    values : torch.Tensor of shape (n,)
        The function.
    gradient : torch.Tensor of shape (n, ...)
        Its gradient.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import input_gradient
    >>> values, gradient = input_gradient(lambda x: (x**2).sum(1), torch.tensor([[1.0, 3.0]]))
    >>> gradient
    tensor([[2., 6.]])
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone() if create_graph else x.detach().clone()
        x = x if x.requires_grad else x.requires_grad_()
        values = function(x)
        (gradient,) = torch.autograd.grad(values.sum(), x, create_graph=create_graph)
    return (values, gradient) if create_graph else (values.detach(), gradient)


def field_divergence(field, x, probes=None, *, create_graph=False):
    """Compute a vector field and its divergence, row by row.

    Parameters
    ----------
    field : callable
        Maps (n, d) to (n, d); row i of the result depends on row i alone.
    x : torch.Tensor of shape (n, d)
        Rows.
    probes : torch.Tensor of shape (n_probes, n, d), default=None
        Draws with identity covariance, such as random signs: the estimate v'Jv of Hutchinson,
        averaged. None for the exact divergence, in d backward passes.
    create_graph : bool, default=False
        Keep the graph, to train with the result.

    Returns
    -------
    values : torch.Tensor of shape (n, d)
        The field.
    divergence : torch.Tensor of shape (n,)
        The trace of its Jacobian.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import field_divergence
    >>> field_divergence(lambda x: x**2, torch.tensor([[1.0, 3.0]]))[1]
    tensor([8.])
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone() if create_graph else x.detach().clone()
        x = x if x.requires_grad else x.requires_grad_()
        values = field(x)
        if not values.requires_grad:  # a constant field
            return values, torch.zeros_like(values[:, 0])

        def backward(direction):
            return torch.autograd.grad(
                values, x, direction, retain_graph=True, create_graph=create_graph
            )[0]

        if probes is None:
            eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            parts = [backward(e.expand_as(values))[:, j] for j, e in enumerate(eye)]
            divergence = torch.stack(parts).sum(0)
        else:
            parts = [(backward(v) * v).sum(1) for v in probes]
            divergence = torch.stack(parts).mean(0)
    return (values, divergence) if create_graph else (values.detach(), divergence.detach())
