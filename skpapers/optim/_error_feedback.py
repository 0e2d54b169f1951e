"""EF21: data-parallel training on compressed gradients, with error feedback."""

from numbers import Integral, Real

import numpy as np
import torch
import torch.distributed as dist
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from torch.optim import Optimizer

from ._compressed_exchange import compress, exchange, is_dense, message_bytes
from ._compressors import Compressor, Identity, TopK
from ._foreach import check_options

__all__ = ["EF21", "ef21_stepsize"]


class EF21(Optimizer):
    """Gradient descent of several workers, of which each sends a compressed correction only.

    The objective is the mean of the losses f_i of n workers. Everybody keeps an estimate g_i of
    the gradient of worker i. In a round worker i sends ``C(grad f_i(x) - g_i)``, a few numbers,
    which all add to g_i; then x moves by ``-lr * mean(g_i)``. The estimates become exact as the
    iterates settle, so that there is convergence to a stationary point, which compressing the
    gradients themselves does not give.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter or of dict
        Parameters to optimize, or groups of them (with a `lr` each).
    lr : float, default=0.01
        Step size; :func:`ef21_stepsize` gives the largest one that is proved to converge.
    compressor : Compressor, default=None
        What is sent; None is ``TopK(0.01)``.
    n_workers : int, default=None
        Number of workers that are simulated in this process; see :meth:`step`. With None every
        process of `process_group` is a worker, or, where torch.distributed is not initialised,
        this process is the only one.
    weights : {"uniform", "smoothness"} or array-like of shape (n_workers,), default="uniform"
        Weights w_i of the estimates (EF21-W): worker i estimates ``grad f_i / (n w_i)``, and x
        moves along ``sum(w_i g_i)``. "smoothness" is ``w_i = L_i / sum(L)``. With a positively
        homogeneous compressor (all but :class:`NaturalCompression`) the iterates do not depend
        on the weights.
    smoothness : array-like of shape (n_workers,), default=None
        Smoothness constants L_i of the workers' losses, for ``weights="smoothness"``.
    shares : array-like of shape (n_workers,), default=None
        Shares of the workers in the objective ``sum(shares * f)``, for instance of the rows; None
        for equal shares.
    process_group : torch.distributed.ProcessGroup, default=None
        The workers, if they are processes; None is the default group.
    granularity : {"tensor", "global"}, default="tensor"
        Compress each parameter by itself, or all of them as one vector.
    g_init : {"gradient", "zero"}, default="gradient"
        First estimate: the whole gradient, sent uncompressed in the first round, or zero, after
        which the first round makes it ``C(grad)``.
    participation : float, default=1.0
        Probability with which a worker sends its correction in a round (EF21-PP).
    momentum : float, default=None
        Weight, in (0, 1], of the new gradient in a moving average that takes the place of the
        gradient (EF21-SGDM); None for none.
    refresh : int, default=1000
        Every so many rounds whole gradients are sent, which removes the rounding errors that
        have gathered in the estimates; None for never.
    seed : int, default=0
        Seed of random compressors and of `participation`; the same in all processes.

    Attributes
    ----------
    bytes_sent : float
        Bytes that a worker has sent so far, on average over the simulated ones.
    dense_bytes : int
        Bytes that it would have sent uncompressed.

    Notes
    -----
    With :class:`TopK` a round costs a worker O(d) time and 2 k numbers (values and places) to be
    sent, and n times that to be received. Processes that stay away from a round
    (`participation`) send zeros all the same, as the messages of a collective have one size.

    References
    ----------
    .. [1] P. Richtarik, E. Gasanov, K. Burlachenko, "Error Feedback Reloaded: From Quadratic to
       Arithmetic Mean of Smoothness Constants", ICLR 2024, arXiv:2402.10774, algorithms 1 and 2.
    .. [2] P. Richtarik, I. Sokolov, I. Fatkhullin, "EF21: A New, Simpler, Theoretically Better,
       and Practically Faster Error Feedback", NeurIPS 2021, arXiv:2106.05203.
    .. [3] I. Fatkhullin, A. Tyurin, P. Richtarik, "Momentum Provably Improves Error Feedback!",
       NeurIPS 2023, arXiv:2305.15155.

    Examples
    --------
    Two workers in one process, that would like x to be (1, 0) and (0, 1):

    >>> import torch
    >>> from skpapers.optim import EF21, TopK
    >>> x = torch.nn.Parameter(torch.zeros(2))
    >>> targets = torch.eye(2)
    >>> def closure_of(worker):
    ...     def closure():
    ...         loss = (x - targets[worker]).square().sum() / 2
    ...         loss.backward()
    ...         return loss
    ...     return closure
    >>> optimizer = EF21([x], lr=0.3, compressor=TopK(1), n_workers=2)
    >>> for _ in range(50):
    ...     loss = optimizer.step([closure_of(0), closure_of(1)])
    >>> x.data
    tensor([0.5000, 0.5000])
    """

    registered_name = "ef21"
    width_kind = "sgd"  # how the rate scales with the width of a network

    def __init__(
        self,
        params,
        lr=0.01,
        compressor=None,
        n_workers=None,
        weights="uniform",
        smoothness=None,
        shares=None,
        process_group=None,
        granularity="tensor",
        g_init="gradient",
        participation=1.0,
        momentum=None,
        refresh=1000,
        seed=0,
    ):
        options = {
            "lr": lr,
            "compressor": compressor,
            "n_workers": n_workers,
            "granularity": granularity,
            "g_init": g_init,
            "participation": participation,
            "momentum": momentum,
            "refresh": refresh,
            "seed": seed,
        }
        check_options(options, EF21_CONSTRAINTS, "EF21")
        if n_workers is not None and process_group is not None:
            raise ValueError("n_workers is for workers in one process: set process_group=None")
        super().__init__(params, {"lr": lr})
        self.compressor = TopK() if compressor is None else compressor
        self.process_group = process_group
        self.granularity = granularity
        self.g_init = g_init
        self.participation = participation
        self.momentum = momentum
        self.refresh = refresh
        self.seed = seed
        self.bytes_sent, self.dense_bytes = 0, 0
        self._distributed = n_workers is None and dist.is_available() and dist.is_initialized()
        self.n_workers = dist.get_world_size(process_group) if self._distributed else n_workers
        self.n_workers = self.n_workers or 1
        self.weights = _resolve_weights(weights, smoothness, self.n_workers)
        self.shares = _vector("shares", shares, self.n_workers)
        self._rounds, self._collected = 0, []

    def __getstate__(self):
        state = {k: v for k, v in vars(self).items() if k not in ("process_group", "_collected")}
        return super().__getstate__() | state

    def __setstate__(self, state):
        super().__setstate__({"process_group": None, "_collected": [], **state})

    def state_dict(self):
        """Return the estimates, the counters and the groups.

        Returns
        -------
        dict
            What :meth:`load_state_dict` takes.
        """
        counters = {k: getattr(self, k) for k in ("_rounds", "bytes_sent", "dense_bytes")}
        return super().state_dict() | {"counters": counters}

    def load_state_dict(self, state_dict):
        """Continue from a state.

        Parameters
        ----------
        state_dict : dict
            What :meth:`state_dict` returned.
        """
        vars(self).update(state_dict["counters"])
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "counters"})

    @torch.no_grad()
    def step(self, closure=None):
        """Make one round.

        Parameters
        ----------
        closure : callable or sequence of callable, default=None
            Evaluates a loss and its gradient, and returns the loss. With `n_workers` simulated,
            one for each worker. A single one is the turn of the next worker: the parameters move
            after the turn of the last. None: the gradients are there, as ``grad`` or, with
            several simulated workers, in the attribute ``worker_grads`` of the parameters, of
            shape (n_workers, *shape).

        Returns
        -------
        torch.Tensor or None
            The loss; of several closures the mean (weighted by `shares`).
        """
        loss = None
        if closure is None:
            self._collected = self._given()
        elif callable(closure):
            loss = self._turn(closure)
        else:
            loss = self._all_turns(closure)
        if len(self._collected) == self._n_rows():
            gradients = [torch.stack(rows) for rows in zip(*self._collected)]
            self._collected = []
            self._round(gradients)
            self._move()
        return loss

    def _move(self):
        for group in self.param_groups:
            params = _trainable(group)
            if params:
                means = [self.state[p]["mean"] for p in params]
                torch._foreach_sub_(params, torch._foreach_mul(means, group["lr"]))

    def _n_rows(self):
        return 1 if self._distributed else self.n_workers

    def _workers(self):
        """Numbers of the workers that live in this process."""
        if self._distributed:
            return [dist.get_rank(self.process_group)]
        return list(range(self.n_workers))

    def _parameters(self):
        return [p for group in self.param_groups for p in _trainable(group)]

    def _given(self):
        """The gradients of each worker, as the caller has left them."""
        if self._n_rows() == 1:
            return [self._local()]
        gradients = [getattr(p, "worker_grads", None) for p in self._parameters()]
        if any(g is None or len(g) != self.n_workers for g in gradients):
            raise ValueError(
                f"step() of n_workers={self.n_workers} needs a closure for each, or gradients of "
                "shape (n_workers, *shape) in the attribute worker_grads of the parameters"
            )
        return list(zip(*gradients))

    def _local(self):
        pairs = ((p, p.grad) for p in self._parameters())
        return [torch.zeros_like(p) if g is None else g.clone() for p, g in pairs]

    def _turn(self, closure):
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        self._collected.append(self._local())
        return loss

    def _all_turns(self, closures):
        if len(closures) != self._n_rows():
            raise ValueError(f"step needs {self._n_rows()} closures, got {len(closures)}")
        self._collected = []
        losses = torch.stack([self._turn(closure).detach() for closure in closures])
        return losses.mean() if self._distributed else losses @ self._shares().to(losses)

    def _round(self, gradients):
        """Update the estimates and their weighted sum, which all workers share."""
        params = self._parameters()
        for p, gradient in zip(params, gradients):
            if not self.state[p]:
                self.state[p] = {"estimates": gradient.new_zeros(gradient.shape)}
                self.state[p]["mean"] = p.new_zeros(p.shape)
        targets = [target.flatten(1) for target in self._targets(params, gradients)]
        estimates = [self.state[p]["estimates"].flatten(1) for p in params]  # views
        means = [self.state[p]["mean"].flatten() for p in params]
        if self.granularity == "tensor":
            self._exchange(targets, estimates, means)
        else:
            sizes = [len(mean) for mean in means]
            whole, mean = torch.cat(estimates, 1), torch.cat(means)
            self._exchange([torch.cat(targets, 1)], [whole], [mean])
            torch._foreach_copy_(estimates, whole.split(sizes, 1))
            torch._foreach_copy_(means, mean.split(sizes))
        self._rounds += 1

    def _targets(self, params, gradients):
        """What the estimates are to become: weighted gradients, or a moving average of them."""
        rows = self._workers()
        if self.weights is not None or self.shares is not None:
            scale = (self._shares() / self._weights())[rows]
            gradients = [g * _column(scale, g) for g in gradients]
        if self.momentum is None:
            return gradients
        for p, gradient in zip(params, gradients):
            average = self.state[p].setdefault("average", gradient.clone())
            average.lerp_(gradient, self.momentum)
        return [self.state[p]["average"] for p in params]

    def _shares(self):
        return self._equal() if self.shares is None else self.shares

    def _weights(self):
        return self._equal() if self.weights is None else self.weights

    def _equal(self):
        return torch.full((self.n_workers,), 1 / self.n_workers, dtype=torch.float64)

    def _exchange(self, targets, estimates, means):
        """Send compressed corrections, and add them to the estimates and to their mean."""
        dense = is_dense(self._rounds, self.g_init, self.refresh)
        if dense:
            torch._foreach_zero_(means + estimates)
        compressor = Identity() if dense else self.compressor
        messages, active = compress(
            torch._foreach_sub(targets, estimates),
            compressor,
            self.seed,
            self._rounds,
            self._workers(),
            1.0 if dense else self.participation,
        )
        for estimate, message in zip(estimates, messages):
            compressor.add_(estimate, message)
        self.bytes_sent += message_bytes(messages) * (1.0 if self._distributed else active)
        self.dense_bytes += message_bytes([(target,) for target in targets])
        if self._distributed:
            messages = exchange(messages, self.process_group)
        for mean, message in zip(means, messages):
            compressor.add_sum_(mean, message, self._weights().to(mean))


@validate_params(
    {
        "smoothness": ["array-like"],
        "alpha": [Interval(Real, 0, 1, closed="right"), Compressor],
        "n_values": [Interval(Integral, 1, None, closed="left"), None],
        "total_smoothness": [Interval(Real, 0, None, closed="neither"), None],
        "mean": [StrOptions({"arithmetic", "quadratic"})],
        "feature_share": [Interval(Real, 0, 1, closed="right")],
    },
    prefer_skip_nested_validation=True,
)
def ef21_stepsize(
    smoothness,
    alpha,
    *,
    n_values=None,
    total_smoothness=None,
    mean="arithmetic",
    feature_share=1.0,
):
    """Compute the largest step size for which EF21 is proved to converge.

    ``1 / (L + mean(L_i) * xi)`` with ``xi = (1 + sqrt(1 - alpha)) / alpha - 1``.

    Parameters
    ----------
    smoothness : array-like of shape (n_workers,)
        Smoothness constants L_i of the workers' losses: Lipschitz constants of their gradients.
    alpha : float in (0, 1] or Compressor
        Contraction of the compressor, ``E ||C(v) - v||^2 <= (1 - alpha) ||v||^2``.
    n_values : int, default=None
        Length of the vectors; needed where `alpha` is a compressor.
    total_smoothness : float, default=None
        Smoothness L of the mean of the losses; None is the mean of `smoothness`, which is an
        upper bound.
    mean : {"arithmetic", "quadratic"}, default="arithmetic"
        Mean of the L_i: "arithmetic" is the new result, "quadratic" the former one, whose steps
        are shorter the more the workers differ.
    feature_share : float, default=1.0
        Largest share of the workers on which a feature is not zero; sparse features allow
        ``xi * sqrt(feature_share)``.

    Returns
    -------
    float
        The step size.

    References
    ----------
    .. [1] P. Richtarik, E. Gasanov, K. Burlachenko, "Error Feedback Reloaded: From Quadratic to
       Arithmetic Mean of Smoothness Constants", ICLR 2024, arXiv:2402.10774, theorems 3 and 4.

    Examples
    --------
    >>> from skpapers.optim import ef21_stepsize
    >>> new = ef21_stepsize([1, 1, 1, 100], 0.1)
    >>> old = ef21_stepsize([1, 1, 1, 100], 0.1, mean="quadratic")
    >>> round(new / old, 2)
    1.89
    """
    smoothness = np.asarray(smoothness, dtype=np.float64)
    if smoothness.ndim != 1 or not (np.isfinite(smoothness) & (smoothness > 0)).all():
        raise ValueError(f"smoothness must be a vector of positive numbers, got {smoothness!r}")
    if isinstance(alpha, Compressor):
        if n_values is None:
            raise ValueError("n_values is needed where alpha is a compressor")
        alpha = alpha.alpha(n_values)
    xi = compression_factor(alpha) * np.sqrt(feature_share)
    power = 1 if mean == "arithmetic" else 2
    average = np.mean(smoothness**power) ** (1 / power)
    total = smoothness.mean() if total_smoothness is None else total_smoothness
    return float(1 / (total + average * xi))


def compression_factor(alpha):
    """``xi = sqrt(beta / theta)``, theta = 1 - sqrt(1 - alpha), beta = (1 - alpha) / theta."""
    return (1 + np.sqrt(1 - alpha)) / alpha - 1


_POSITIVE = Interval(Integral, 1, None, closed="left")
_SHARE = Interval(Real, 0, 1, closed="right")
EF21_CONSTRAINTS = {
    "lr": [Interval(Real, 0, None, closed="left")],
    "compressor": [Compressor, None],
    "n_workers": [_POSITIVE, None],
    "granularity": [StrOptions({"tensor", "global"})],
    "g_init": [StrOptions({"gradient", "zero"})],
    "participation": [_SHARE],
    "momentum": [_SHARE, None],
    "refresh": [_POSITIVE, None],
    "seed": [Interval(Integral, 0, None, closed="left")],
}


def _resolve_weights(weights, smoothness, n_workers):
    if isinstance(weights, str) and weights == "uniform":
        return None
    if isinstance(weights, str) and weights == "smoothness":
        if smoothness is None:
            raise ValueError("weights='smoothness' needs smoothness")
        return _vector("smoothness", smoothness, n_workers)
    if isinstance(weights, str):
        raise ValueError(f"weights must be 'uniform', 'smoothness' or an array, got {weights!r}")
    return _vector("weights", weights, n_workers)


def _vector(name, values, n_workers):
    """Positive numbers, one a worker, scaled to sum to 1."""
    if values is None:
        return None
    values = torch.as_tensor(np.asarray(values, dtype=np.float64))
    if values.shape != (n_workers,) or not (values > 0).all() or not values.isfinite().all():
        raise ValueError(f"{name} must be {n_workers} positive numbers, got {values.tolist()}")
    return values / values.sum()


def _trainable(group):
    return [p for p in group["params"] if p.requires_grad]


def _column(values, like):
    return values.to(like).view(-1, *[1] * (like.ndim - 1))
