"""Diagonal state space models: initialisation, convolution kernel, torch layer (S4D)."""

import math

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import nn

__all__ = ["DiagonalSSM", "hippo_legs", "s4d_init", "s4d_kernel"]

DISCRETIZATIONS = ("zoh", "bilinear")


def hippo_legs(n):
    """Build the HiPPO-LegS system, the sum of a normal and a low-rank matrix.

    Parameters
    ----------
    n : int
        Number of states.

    Returns
    -------
    A : ndarray of shape (n, n)
        The state matrix.
    b : ndarray of shape (n,)
        The input vector.
    p : ndarray of shape (n,)
        The vector for which ``A + outer(p, p)`` is normal: -1/2 plus a skew matrix.

    Examples
    --------
    >>> from skpapers.time_series._diagonal_ssm import hippo_legs
    >>> hippo_legs(2)[1].round(3)
    array([1.   , 1.732])
    """
    order = np.arange(n)
    b = np.sqrt(2 * order + 1.0)
    A = -np.tril(np.outer(b, b), -1) - np.diag(order + 1.0)
    return A, b, np.sqrt(order + 0.5)


def s4d_init(n, kind="legs"):
    """Compute the initial poles and inputs of a diagonal state space model.

    Parameters
    ----------
    n : int
        Number of states, even.
    kind : {"legs", "inv", "lin", "real"}, default="legs"
        "legs" has the eigenvalues of the normal part of HiPPO-LegS, "inv" their closed-form
        approximation, "lin" equidistant frequencies (a Fourier basis), "real" no frequencies.

    Returns
    -------
    A : ndarray of complex of shape (n / 2,)
        One pole of each conjugate pair, by increasing frequency, all with negative real part.
    B : ndarray of complex of shape (n / 2,)
        Input coefficients.

    Raises
    ------
    ValueError
        If `n` is odd or not positive, or `kind` is unknown.

    Notes
    -----
    The phases of the eigenvectors, which are arbitrary, are chosen such that the coefficients of
    "legs" are positive. As in the authors' code, they belong to the input vector b of HiPPO-LegS,
    not to b / 2 as in Theorem 3: C is drawn at random in any case. O(n ** 3) for "legs".

    References
    ----------
    .. [1] A. Gu, A. Gupta, K. Goel and C. Re, "On the Parameterization and Initialization of
       Diagonal State Space Models", NeurIPS 2022, section 4.

    Examples
    --------
    >>> from skpapers.time_series import s4d_init
    >>> s4d_init(4, "lin")[0].round(3)
    array([-0.5+0.j   , -0.5+3.142j])
    """
    if n < 2 or n % 2:
        raise ValueError(f"the number of states must be even and positive, got {n}")
    if kind == "legs":
        return _legs(n)
    order = np.arange(n // 2)
    poles = {
        "inv": -0.5 + 1j * n / np.pi * (n / (2 * order[::-1] + 1) - 1),
        "lin": -0.5 + 1j * np.pi * order,
        "real": -(order + 1.0) + 0j,
    }
    if kind not in poles:
        raise ValueError(f"kind must be 'legs', 'inv', 'lin' or 'real', got {kind!r}")
    return poles[kind], np.ones(n // 2, dtype=complex)


def _legs(n):
    A, b, p = hippo_legs(n)
    skew = A + np.outer(p, p) + np.eye(n) / 2
    # A itself is far from normal (condition 1e20 at n = 64); -i times the skew part is Hermitian.
    frequencies, vectors = np.linalg.eigh(-1j * skew)
    half = slice(n // 2, n)
    return -0.5 + 1j * frequencies[half], np.abs(vectors[:, half].conj().T @ b) + 0j


def s4d_kernel(A, B, C, dt, length, discretization="zoh"):
    """Compute the convolution kernel of a discretised diagonal state space model.

    Parameters
    ----------
    A, B, C : ndarray or torch.Tensor of complex of shape (n / 2,) or (n_channels, n / 2)
        Poles, input and output coefficients, one of each conjugate pair.
    dt : float, or ndarray or torch.Tensor of shape (n_channels,)
        Step size.
    length : int
        Number of time steps.
    discretization : {"zoh", "bilinear"}, default="zoh"
        Zero-order hold or the bilinear transform.

    Returns
    -------
    ndarray or torch.Tensor of float of shape (length,) or (n_channels, length)
        ``K[l] = 2 Re sum_n C_n B_n A_n ** l`` with the discretised A and B, in the precision of
        `C`; a tensor if `A` is one.

    Notes
    -----
    A Vandermonde product. With ``l = q m + r`` it is a matrix product of two tables of
    O(n sqrt(length)) exponentials, so that neither time nor memory goes into n * length
    exponentials.

    References
    ----------
    .. [1] A. Gu, A. Gupta, K. Goel and C. Re, "On the Parameterization and Initialization of
       Diagonal State Space Models", NeurIPS 2022, equations 2 and 6.

    Examples
    --------
    >>> from skpapers.time_series import s4d_init, s4d_kernel
    >>> A, B = s4d_init(4, "lin")
    >>> s4d_kernel(A, B, B, dt=0.1, length=3).round(3)
    array([0.387, 0.35 , 0.301])
    """
    if torch.is_tensor(A):
        return _kernel(A, B, C, dt, length, discretization)
    A, B, C = (torch.from_numpy(np.asarray(x, dtype=np.complex128)) for x in (A, B, C))
    dt = torch.as_tensor(np.asarray(dt, dtype=np.float64))
    return _kernel(A, B, C, dt, length, discretization).numpy()


def _kernel(A, B, C, dt, length, discretization):
    log_A, B = discretize(A, B, dt, discretization)
    return vandermonde(log_A, (B * C).to(C.dtype), length)


def discretize(A, B, dt, discretization="zoh"):
    """Return the logarithm of the discrete poles and the discrete input coefficients."""
    if discretization not in DISCRETIZATIONS:
        raise ValueError(
            f"discretization must be one of {DISCRETIZATIONS}, got {discretization!r}"
        )
    if torch.is_tensor(dt):
        dt = dt[..., None]
    z = dt * A
    if discretization == "zoh":
        return z, B * (torch.exp(z) - 1) / A
    return torch.log((1 + z / 2) / (1 - z / 2)), B * dt / (1 - z / 2)


def vandermonde(log_A, coefficients, length):
    """Compute ``2 Re sum_n coefficients_n exp(l log_A_n)`` for l = 0, ..., length - 1.

    The exponentials are taken in double precision (phases grow with l); the sums, which are most
    of the work, in the precision of the coefficients.
    """
    dtype = coefficients.dtype
    columns = max(1, math.isqrt(length))
    rows = -(-length // columns)
    log_A = log_A.to(torch.complex128)[..., None]
    step = torch.arange(max(rows, columns), dtype=torch.float64, device=log_A.device)
    coarse = torch.exp(log_A * (columns * step[:rows])).to(dtype) * (2 * coefficients[..., None])
    fine = torch.exp(log_A * step[:columns]).to(dtype)
    # Re(a b) = Re a Re b - Im a Im b, as one real matrix product over twice the states.
    left = torch.cat([coarse.real, -coarse.imag], dim=-2).transpose(-1, -2)
    right = torch.cat([fine.real, fine.imag], dim=-2)
    return (left @ right).flatten(-2)[..., :length]


def causal_convolution(u, kernel, reverse_kernel=None):
    """Convolve `u` (..., n_channels, length) with causal kernels (n_channels, length) by FFT.

    `reverse_kernel[l]` weighs the input l + 1 steps ahead.
    """
    length = u.shape[-1]
    size = next_fast_len(max(2 * length, 1), real=True)  # shorter ones would wrap around
    if reverse_kernel is not None:
        gap = kernel.new_zeros(*kernel.shape[:-1], size - 2 * length)
        kernel = torch.cat([kernel, gap, reverse_kernel.flip(-1)], dim=-1)
    spectrum = torch.fft.rfft(u, n=size) * torch.fft.rfft(kernel, n=size)
    return torch.fft.irfft(spectrum, n=size)[..., :length]


class DiagonalSSM(nn.Module):
    """A bank of diagonal state space models, one a channel: the layer of S4D.

    Each channel is a linear system of damped oscillators, ``x' = A x + B u``,
    ``y = 2 Re(C x) + D u``, discretised with a step size of its own and computed as one
    convolution, or step by step.

    Parameters
    ----------
    n_channels : int
        Number of channels.
    d_state : int, default=64
        Number of states of each channel, in conjugate pairs; even.
    init : {"legs", "inv", "lin", "real"} or callable, default="legs"
        Initial poles and inputs, as in :func:`s4d_init`; or a function from `d_state` to them.
    discretization : {"zoh", "bilinear"}, default="zoh"
        Zero-order hold or the bilinear transform.
    dt_min : float, default=0.001
        Smallest initial step size; they are log-uniform.
    dt_max : float, default=0.1
        Largest initial step size.
    bidirectional : bool, default=False
        Whether a second kernel, with C of its own, runs backwards.
    ssm_lr : float, default=0.001
        Upper bound of the learning rate of step sizes, poles and inputs, which have no weight
        decay.
    train_B : bool, default=True
        Whether the input coefficients are trained.

    References
    ----------
    .. [1] A. Gu, A. Gupta, K. Goel and C. Re, "On the Parameterization and Initialization of
       Diagonal State Space Models", NeurIPS 2022, section 3.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import build_module
    >>> from skpapers.time_series import DiagonalSSM
    >>> layer = build_module(lambda: DiagonalSSM(3), torch.Generator().manual_seed(0))
    >>> layer(torch.ones(2, 3, 100)).shape
    torch.Size([2, 3, 100])
    """

    def __init__(
        self,
        n_channels,
        d_state=64,
        init="legs",
        discretization="zoh",
        dt_min=0.001,
        dt_max=0.1,
        bidirectional=False,
        ssm_lr=0.001,
        train_B=True,
    ):
        super().__init__()
        self.init = init
        self.d_state = d_state
        self.discretization = discretization
        self.dt_range = dt_min, dt_max
        self.bidirectional = bidirectional
        half = d_state // 2
        self.log_dt = nn.Parameter(torch.empty(n_channels))
        self.log_decay = nn.Parameter(torch.empty(n_channels, half))
        self.frequency = nn.Parameter(torch.empty(n_channels, half))
        # Complex numbers as pairs of real ones, so that Adam scales both parts on their own.
        self.B = nn.Parameter(torch.empty(n_channels, half, 2), requires_grad=train_B)
        self.C = nn.Parameter(torch.empty(1 + bidirectional, n_channels, half, 2))
        self.D = nn.Parameter(torch.empty(n_channels))
        slow = {"lr": ssm_lr, "weight_decay": 0.0}
        self.optimizer_options = dict.fromkeys(("log_dt", "log_decay", "frequency", "B"), slow)

    def init_parameters(self, generator):
        """Set the poles, and draw step sizes, C and D.

        Parameters
        ----------
        generator : torch.Generator
            Source of the draws.
        """
        make = self.init if callable(self.init) else lambda n: s4d_init(n, self.init)
        A, B = (torch.from_numpy(np.asarray(x, dtype=complex)) for x in make(self.d_state))
        low, high = map(math.log, self.dt_range)
        self.log_dt.uniform_(low, high, generator=generator)
        self.log_decay.copy_(torch.log(-A.real).expand_as(self.log_decay))
        self.frequency.copy_(A.imag.expand_as(self.frequency))
        self.B.copy_(torch.view_as_real(B).expand_as(self.B))
        self.C.normal_(std=math.sqrt(0.5), generator=generator)
        self.D.normal_(generator=generator)

    def system(self, rate=1.0):
        """Return the continuous system, in double precision: phases grow with time.

        Parameters
        ----------
        rate : float, default=1.0
            Factor on the step sizes.

        Returns
        -------
        A : torch.Tensor of complex of shape (n_channels, d_state / 2)
            Poles; their real parts are negative whatever the parameters.
        B : torch.Tensor of complex of shape (n_channels, d_state / 2)
            Input coefficients.
        dt : torch.Tensor of shape (n_channels,)
            Step sizes.
        """
        A = torch.complex(-torch.exp(self.log_decay.double()), self.frequency.double())
        dt = rate * torch.exp(self.log_dt.double())
        return A, torch.view_as_complex(self.B.double()), dt

    def kernels(self, length, rate=1.0):
        """Compute the convolution kernels.

        Parameters
        ----------
        length : int
            Number of time steps.
        rate : float, default=1.0
            Factor on the step sizes.

        Returns
        -------
        torch.Tensor of shape (n_directions, n_channels, length)
            The kernel forwards and, if bidirectional, backwards.
        """
        A, B, dt = self.system(rate)
        C = torch.view_as_complex(self.C)
        return s4d_kernel(A, B, C, dt, length, self.discretization)

    def forward(self, u, rate=1.0):
        """Run the systems over whole series.

        Parameters
        ----------
        u : torch.Tensor of shape (..., n_channels, length)
            Inputs.
        rate : float, default=1.0
            Time between two inputs, in units of that of the training.

        Returns
        -------
        torch.Tensor of shape (..., n_channels, length)
            Outputs.
        """
        y = causal_convolution(u, *self.kernels(u.shape[-1], rate))
        return y + self.D[:, None] * u

    def recurrence(self, rate=1.0):
        """Compute the discrete system that ``step`` runs, in double precision.

        Parameters
        ----------
        rate : float, default=1.0
            Factor on the step sizes.

        Returns
        -------
        tuple of torch.Tensor
            Discrete poles, inputs and outputs, complex of shape (n_channels, d_state / 2), and
            the direct gain of shape (n_channels,).

        Raises
        ------
        ValueError
            If the layer is bidirectional.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional layer needs the whole series, it has no recurrence")
        log_A, B = discretize(*self.system(rate), self.discretization)
        C = torch.view_as_complex(self.C[0].double())
        return torch.exp(log_A), B, C, self.D.double()

    @staticmethod
    def step(system, state, u):
        """Advance one time step.

        Parameters
        ----------
        system : tuple of torch.Tensor
            What ``recurrence`` returns.
        state : torch.Tensor of complex of shape (..., n_channels, d_state / 2), or 0.0
            The state; 0.0 at the start.
        u : torch.Tensor of shape (..., n_channels)
            Inputs of this time step.

        Returns
        -------
        state : torch.Tensor of complex of shape (..., n_channels, d_state / 2)
            The new state.
        y : torch.Tensor of float64 of shape (..., n_channels)
            Outputs of this time step.
        """
        A, B, C, D = system
        state = A * state + B * u[..., None]
        return state, 2 * (C * state).sum(dim=-1).real + D * u
