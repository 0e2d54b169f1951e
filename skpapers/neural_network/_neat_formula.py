"""An evolved network as formulas."""

import numpy as np

from ._neat_networks import ACTIVATIONS, AGGREGATIONS

__all__ = ["active_connections", "genome_to_sympy"]


def genome_to_sympy(nodes, conns, n_inputs, n_outputs, *, inputs=None):
    """Write the outputs of a genome as sympy expressions of its inputs.

    Parameters
    ----------
    nodes : ndarray of shape (n_nodes, 4)
        Key, bias, aggregation and activation of the output and hidden nodes, as in
        ``NEATRegressor.best_nodes_``.
    conns : ndarray of shape (n_connections, 3)
        Source key, target key and weight of the connections, as in
        ``NEATRegressor.best_conns_``.
    n_inputs : int
        Number of inputs, whose keys are 0 to ``n_inputs - 1``.
    n_outputs : int
        Number of outputs, whose keys are the next ones.
    inputs : sequence of str or sympy.Expr, default=None
        Names of the inputs, or what stands for them; None for x0, x1 and so on.

    Returns
    -------
    list of sympy.Expr
        One an output.

    Notes
    -----
    Costs one expression a connection that leads to an output; what does not is left out.

    References
    ----------
    .. [1] L. Wang, M. Zhao, E. Liu, K. Sun, R. Cheng, "Tensorized NeuroEvolution of Augmenting
       Topologies for GPU Acceleration", GECCO 2024, arXiv:2404.01817, section 3.1.

    Examples
    --------
    >>> from skpapers.neural_network import genome_to_sympy
    >>> nodes = [[2, 0.5, 0, 0], [3, 0.0, 0, 2]]
    >>> conns = [[0, 2, 2.0], [0, 3, 1.0], [1, 3, -1.0], [3, 2, 4.0]]
    >>> genome_to_sympy(nodes, conns, n_inputs=2, n_outputs=1)
    [2.0*x0 + 4.0*tanh(1.0*x0 - 1.0*x1) + 0.5]
    """
    import sympy  # torch brings it; it takes a while to import

    inputs = [f"x{j}" for j in range(n_inputs)] if inputs is None else inputs
    nodes, conns = np.asarray(nodes, dtype=float), np.asarray(conns, dtype=float).reshape(-1, 3)
    genes = {int(key): (bias, int(agg), int(act)) for key, bias, agg, act in nodes}
    outputs = list(range(n_inputs, n_inputs + n_outputs))
    active = conns[active_connections(conns, outputs)]
    values = {j: sympy.Symbol(x) if isinstance(x, str) else x for j, x in enumerate(inputs)}
    for key in _topological_order(active, genes, n_inputs):
        bias, aggregation, activation = genes[key]
        terms = [w * values[int(j)] for j, target, w in active if target == key]
        total = _aggregate(sympy, _name(AGGREGATIONS, aggregation), terms) + bias
        if key not in outputs:
            total = _activate(sympy, _name(ACTIVATIONS, activation), total)
        values[key] = total
    return [sympy.sympify(values[key]) for key in outputs]


def active_connections(conns, outputs):
    """Which connections lie on a path to an output."""
    alive = np.isin(conns[:, 1], outputs)
    while True:
        more = np.isin(conns[:, 1], [*outputs, *conns[alive, 0]])
        if (more == alive).all():
            return alive
        alive = more


def _topological_order(conns, genes, n_inputs):
    """Keys of the nodes, each after those that its connections come from."""
    order, left = [], dict.fromkeys(genes)
    while left:
        blocked = {int(b) for a, b, _ in conns if int(a) in left}
        ready = [key for key in left if key not in blocked]
        if not ready:
            raise ValueError("the connections of the genome have a cycle")
        order += ready
        left = {key: None for key in left if key in blocked}
    return order


def _name(table, position):
    return list(table)[position]


def _aggregate(sympy, name, terms):
    if not terms:
        return sympy.Float(0)
    if name == "maxabs":
        high, low = sympy.Max(*terms), sympy.Min(*terms)
        return sympy.Piecewise((high, sympy.Abs(high) >= sympy.Abs(low)), (low, True))
    if name == "median":
        return _median(sympy, terms)
    return {
        "sum": lambda: sympy.Add(*terms),
        "product": lambda: sympy.Mul(*terms),
        "max": lambda: sympy.Max(*terms),
        "min": lambda: sympy.Min(*terms),
        "mean": lambda: sympy.Add(*terms) / len(terms),
    }[name]()


def _median(sympy, terms):
    """Mean of the middle order statistics, by sorting neighbours until all are in order."""
    terms = list(terms)
    for last in range(len(terms) - 1, 0, -1):
        for j in range(last):
            a, b = terms[j], terms[j + 1]
            terms[j], terms[j + 1] = sympy.Min(a, b), sympy.Max(a, b)
    n = len(terms)
    return (terms[(n - 1) // 2] + terms[n // 2]) / 2


def _activate(sympy, name, z):
    return {
        "identity": lambda: z,
        "sigmoid": lambda: 1 / (1 + sympy.exp(-z)),
        "tanh": lambda: sympy.tanh(z),
        "sin": lambda: sympy.sin(z),
        "relu": lambda: sympy.Max(z, 0),
        "leaky_relu": lambda: sympy.Max(z, 0.005 * z),
        "inverse": lambda: sympy.sign(z) / sympy.Max(sympy.Abs(z), 1e-7),
        "log": lambda: sympy.log(sympy.Max(z, 1e-7)),
        "exp": lambda: sympy.exp(sympy.Min(z, 30)),
        "abs": lambda: sympy.Abs(z),
        "scaled_sigmoid": lambda: 3 / (1 + sympy.exp(-z)),
        "scaled_tanh": lambda: 3 * sympy.tanh(z),
    }[name]()
