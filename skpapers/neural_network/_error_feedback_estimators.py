"""Linear models and networks trained by workers that send compressed gradients."""

from numbers import Integral, Real

import numpy as np
import torch
from scipy import sparse
from sklearn.base import _fit_context
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions

from skpapers.optim import (
    EF21,
    Identity,
    NaturalCompression,
    RandK,
    SignNorm,
    TopK,
    ef21_stepsize,
)
from skpapers.utils import draw_seed, truncated_svd

from ._families import TorchClassifier, TorchRegressor
from ._gloo_workers import WorkerTurns, train_in_processes
from ._mlp import _MLP

__all__ = ["ErrorFeedbackClassifier", "ErrorFeedbackRegressor"]

_COMPRESSORS = {
    "topk": TopK,
    "randk": RandK,
    "sign_norm": lambda ratio: SignNorm(),
    "natural": lambda ratio: NaturalCompression(),
    "identity": lambda ratio: Identity(),
}
_NETWORK_RATE = 0.05


class _ErrorFeedback(_MLP):
    """What the classifier and the regressor share: the workers and their rounds."""

    _training_defaults = {"tol": 0.0, "device": "cpu"}
    _parameter_constraints = {
        "n_workers": [Interval(Integral, 1, None, closed="left")],
        "backend": [StrOptions({"simulated", "gloo"})],
        "compressor": [StrOptions(set(_COMPRESSORS))],
        "ratio": [Interval(Real, 0, 1, closed="right")],
        "weights": [StrOptions({"uniform", "smoothness"})],
        "lr": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "split": [StrOptions({"contiguous", "random", "sorted"})],
        "timeout": [Interval(Real, 0, None, closed="neither")],
    }
    _search_space = {"ratio": [0.05, 0.2, 1.0], "max_epochs": [100, 300]}

    @staticmethod
    def _small_params():
        return {"max_epochs": 20, "n_workers": 2, "ratio": 0.5}

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, worker=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Target.
        worker : array-like of shape (n_samples,), default=None
            Which worker holds each row, as labels of any kind; None for the rule `split`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        self._worker = worker
        try:
            return self._fit(X, y)
        finally:
            del self._worker

    def _rows(self, data):
        """Indices of the rows of each worker."""
        worker = getattr(self, "_worker", None)
        if worker is not None:
            worker = column_or_1d(worker)
            check_consistent_length(worker, data.y)
            label = np.unique(worker, return_inverse=True)[1]
            return [torch.from_numpy(np.flatnonzero(label == i)) for i in range(label.max() + 1)]
        order = torch.arange(data.n_rows)
        if self.split == "random":
            order = torch.from_numpy(np.random.default_rng(self._seed).permutation(data.n_rows))
        elif self.split == "sorted":
            order = data.y.reshape(data.n_rows, -1)[:, 0].argsort(stable=True)
        return list(order.tensor_split(min(self.n_workers, data.n_rows)))

    def _build(self, data, rng):
        self._seed = draw_seed(rng)
        rows = self._rows(data)
        self.n_workers_ = len(rows)
        linear = len(self._layer_sizes()) == 0
        self.smoothness_ = self._smoothness(data, rows) if linear else None
        if self.weights == "smoothness" and not linear:
            raise ValueError("weights='smoothness' is for linear models: hidden_layer_sizes=()")
        self.step_size_ = self.lr
        if self.lr == "auto":
            self.step_size_ = self._safe_step(data) if linear else _NETWORK_RATE
        super()._build(data, rng)

    def _on_fit_begin(self, module, data):
        if len(module) == 1:  # a convex problem: start at zero, for whichever seed
            for parameter in module.parameters():
                parameter.zero_()

    def _smoothness(self, data, rows):
        """Smoothness of the workers' losses, times the shares of the rows and n_workers."""
        eigenvalues = [_top_eigenvalue(data.inputs[0][index.numpy()]) for index in rows]
        return self._curvature() * self.n_workers_ / data.n_rows * np.array(eigenvalues)

    def _safe_step(self, data):
        total = self._curvature() / data.n_rows * _top_eigenvalue(data.inputs[0])
        sizes = (self.n_features_in_ * self._n_outputs(), self._n_outputs())
        alpha = min(self._compressor().alpha(size) for size in sizes)
        return ef21_stepsize(self.smoothness_, alpha, total_smoothness=total)

    def _compressor(self):
        return _COMPRESSORS[self.compressor](float(self.ratio))

    def _make_optimizer(self, module):
        return self._ef21(module, self.n_workers_)

    def _ef21(self, module, n_workers):
        return EF21(
            module.parameters(),
            lr=self.step_size_,
            compressor=self._compressor(),
            n_workers=n_workers,
            weights=self.weights,
            smoothness=self.smoothness_,
            seed=self._seed,
        )

    def _train(self, train, validation, epochs):
        rows = self._rows(train)
        if len(rows) != self.n_workers_:
            raise ValueError(f"{self.n_workers_} workers need rows each, got {len(rows)} parts")
        shares = torch.tensor([len(index) / train.n_rows for index in rows], dtype=torch.float64)
        self.net_.optimizer_.shares = shares
        if self.backend == "simulated":
            super()._train(train, validation, epochs)
        else:
            self._train_in_processes(train, rows, epochs)
        sent, dense = self.net_.optimizer_.bytes_sent, self.net_.optimizer_.dense_bytes
        self.bytes_sent_, self.compression_ratio_ = int(sent), sent / dense
        return self

    def _make_batches(self, data, generator, only=None):
        return WorkerTurns(data, self._rows(data), self.batch_size, generator, only)

    def _train_in_processes(self, train, rows, epochs):
        """The same rounds by processes, and their results put together."""
        results = train_in_processes(_train_worker, len(rows), (self, train, epochs), self.timeout)
        modules, optimizers, generators, curves = zip(*results)
        shares = self.net_.optimizer_.shares
        self.net_.generator_.set_state(generators[0])
        self.net_.module_.load_state_dict(modules[0])
        self.net_.optimizer_.load_state_dict(_join(optimizers))
        for losses in zip(*curves):
            self.net_.history.new_epoch()
            self.net_.history.record("train_loss", float(shares @ torch.tensor(losses).double()))

    @property
    def coef_(self):
        """Weights of the linear model."""
        return self._linear().weight.detach().numpy()

    @property
    def intercept_(self):
        """Intercepts of the linear model."""
        return self._linear().bias.detach().numpy()

    def _linear(self):
        if len(self.module_) > 1:
            raise AttributeError("coef_ and intercept_ are those of a linear model")
        return self.module_[0]


def _train_worker(rank, estimator, data, epochs):
    """Train as one of several processes, by the net of the estimator."""
    net = estimator.net_
    optimizer = estimator._ef21(net.module_, None)
    optimizer.shares = net.optimizer_.shares
    optimizer.load_state_dict(_row(net.optimizer_.state_dict(), rank))
    net.optimizer_ = optimizer
    before = len(net.history)
    turns = estimator._make_batches(data, net.generator_, only=rank)
    net.train(turns, None, estimator._loss, [], epochs)
    losses = [row["train_loss"] for row in net.history[before:]]
    states = net.module_.state_dict(), net.optimizer_.state_dict(), net.generator_.get_state()
    return *states, losses


def _row(state_dict, rank):
    """The part of the state of simulated workers that is of one of them."""
    state = {
        key: memory | {"estimates": memory["estimates"][rank : rank + 1]}
        for key, memory in state_dict["state"].items()
    }
    return state_dict | {"state": state}


def _join(state_dicts):
    """State of simulated workers that are in the states of the processes."""
    state = {
        key: memory | {"estimates": torch.cat([s["state"][key]["estimates"] for s in state_dicts])}
        for key, memory in state_dicts[0]["state"].items()
    }
    return state_dicts[0] | {"state": state}


def _top_eigenvalue(X):
    """Largest eigenvalue of A'A, A = X with a column of ones."""
    ones = np.ones((X.shape[0], 1))
    if sparse.issparse(X):
        X = sparse.hstack([X, ones], format="csr", dtype=np.float64)
    else:
        X = np.hstack([X, ones], dtype=np.float64)
    return truncated_svd(X, 1, random_state=0)[1][0] ** 2


class ErrorFeedbackClassifier(_ErrorFeedback, TorchClassifier):
    """A classifier trained by workers that each send a few numbers a round, with error feedback.

    The rows are held by workers. In every round (EF21) a worker sends the largest entries of the
    difference between its gradient and what the others believe it to be, and all take the same
    step. The workers are simulated in this process or are processes that talk by gloo.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=()
        Widths of the hidden layers; empty for multinomial logistic regression.
    activation : str or callable, default="relu"
        Name of a registered activation, a module class, or a module.
    n_workers : int, default=4
        Number of workers; at most one a row. `worker` in :meth:`fit` overrides it.
    backend : {"simulated", "gloo"}, default="simulated"
        All workers in this process, or a process each, on the CPU of this machine. The results
        are the same up to rounding. Processes are spawned: a script needs
        ``if __name__ == "__main__":``.
    compressor : {"topk", "randk", "sign_norm", "natural", "identity"}, default="topk"
        What is sent: the largest entries, random ones, signs and a norm, powers of two, or all.
    ratio : float, default=0.05
        Share of the entries of each parameter that "topk" and "randk" send, in (0, 1]; one
        at least.
    weights : {"uniform", "smoothness"}, default="uniform"
        "smoothness" weights the estimates by the smoothness of the workers' losses (EF21-W). It
        makes a difference with "natural" only.
    lr : float or "auto", default="auto"
        Step size; "auto" is the largest one that is proved to converge for a linear model on
        full batches, and 0.05 for a network.
    max_epochs : int, default=200
        Passes over the data; a pass is one round where `batch_size` is None.
    batch_size : int, default=None
        Rows in a batch of a worker; None for all of them.
    split : {"contiguous", "random", "sorted"}, default="contiguous"
        Which rows a worker holds: consecutive ones, random ones, or neighbours in `y`.
    timeout : float, default=600.0
        Seconds after which the processes of "gloo" are ended with a TimeoutError.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" takes that of X.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, random compressors and the random split.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch; of simulated workers only.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_workers_ : int
        Number of workers.
    smoothness_ : ndarray of shape (n_workers,) or None
        Smoothness constants of the workers' losses, scaled by their shares of the rows, so that
        the objective is the mean of the losses; None for a network.
    step_size_ : float
        Step size used.
    bytes_sent_ : int
        Bytes that one worker has sent, on average.
    compression_ratio_ : float
        `bytes_sent_` over what uncompressed gradients would have been.
    coef_ : ndarray of shape (n_classes, n_features)
        Weights of a linear model.
    intercept_ : ndarray of shape (n_classes,)
        Intercepts of a linear model.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A round costs O(n_samples * n_weights). The first round sends whole gradients. The safe step
    is short where few entries are sent, about ``ratio / 2`` of that of gradient descent: in
    time spent computing nothing is gained, in bytes sent a lot. Features should be standardised.
    The bytes are those of the values and of their places (4 bytes each).

    References
    ----------
    .. [1] P. Richtarik, E. Gasanov, K. Burlachenko, "Error Feedback Reloaded: From Quadratic to
       Arithmetic Mean of Smoothness Constants", ICLR 2024, arXiv:2402.10774, algorithm 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from skpapers.neural_network import ErrorFeedbackClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = ErrorFeedbackClassifier(split="sorted", random_state=0).fit(scale(X), y)
    >>> bool(model.score(scale(X), y) > 0.8), bool(model.compression_ratio_ < 0.5)
    (True, True)
    """

    def __init__(
        self,
        hidden_layer_sizes=(),
        activation="relu",
        n_workers=4,
        backend="simulated",
        compressor="topk",
        ratio=0.05,
        weights="uniform",
        lr="auto",
        max_epochs=200,
        batch_size=None,
        split="contiguous",
        timeout=600.0,
        dtype="auto",
        random_state=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.n_workers = n_workers
        self.backend = backend
        self.compressor = compressor
        self.ratio = ratio
        self.weights = weights
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.split = split
        self.timeout = timeout
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def _curvature(self):
        return 0.5  # largest eigenvalue of the Hessian of cross-entropy in the logits


class ErrorFeedbackRegressor(_ErrorFeedback, TorchRegressor):
    """A regressor trained by workers that each send a few numbers a round, with error feedback.

    The rows are held by workers. In every round (EF21) a worker sends the largest entries of the
    difference between its gradient and what the others believe it to be, and all take the same
    step. The workers are simulated in this process or are processes that talk by gloo.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=()
        Widths of the hidden layers; empty for linear regression.
    activation : str or callable, default="relu"
        Name of a registered activation, a module class, or a module.
    n_workers : int, default=4
        Number of workers; at most one a row. `worker` in :meth:`fit` overrides it.
    backend : {"simulated", "gloo"}, default="simulated"
        All workers in this process, or a process each, on the CPU of this machine. The results
        are the same up to rounding. Processes are spawned: a script needs
        ``if __name__ == "__main__":``.
    compressor : {"topk", "randk", "sign_norm", "natural", "identity"}, default="topk"
        What is sent: the largest entries, random ones, signs and a norm, powers of two, or all.
    ratio : float, default=0.05
        Share of the entries of each parameter that "topk" and "randk" send, in (0, 1]; one
        at least.
    weights : {"uniform", "smoothness"}, default="uniform"
        "smoothness" weights the estimates by the smoothness of the workers' losses (EF21-W). It
        makes a difference with "natural" only.
    lr : float or "auto", default="auto"
        Step size; "auto" is the largest one that is proved to converge for a linear model on
        full batches, and 0.05 for a network.
    max_epochs : int, default=200
        Passes over the data; a pass is one round where `batch_size` is None.
    batch_size : int, default=None
        Rows in a batch of a worker; None for all of them.
    split : {"contiguous", "random", "sorted"}, default="contiguous"
        Which rows a worker holds: consecutive ones, random ones, or neighbours in `y`.
    timeout : float, default=600.0
        Seconds after which the processes of "gloo" are ended with a TimeoutError.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Data type of the network; "auto" takes that of X.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, random compressors and the random split.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch; of simulated workers only.

    Attributes
    ----------
    n_outputs_ : int
        Number of targets.
    y_mean_ : ndarray of shape (n_outputs_,)
        Mean of each target.
    y_scale_ : ndarray of shape (n_outputs_,)
        Standard deviation of each target; 1 for a constant one.
    n_workers_ : int
        Number of workers.
    smoothness_ : ndarray of shape (n_workers,) or None
        Smoothness constants of the workers' losses, scaled by their shares of the rows, so that
        the objective is the mean of the losses; None for a network.
    step_size_ : float
        Step size used.
    bytes_sent_ : int
        Bytes that one worker has sent, on average.
    compression_ratio_ : float
        `bytes_sent_` over what uncompressed gradients would have been.
    coef_ : ndarray of shape (n_outputs_, n_features)
        Weights of a linear model of the standardised target.
    intercept_ : ndarray of shape (n_outputs_,)
        Intercepts of a linear model of the standardised target.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A round costs O(n_samples * n_weights). The first round sends whole gradients. The safe step
    is short where few entries are sent, about ``ratio / 2`` of that of gradient descent: in
    time spent computing nothing is gained, in bytes sent a lot. Features should be standardised.
    The bytes are those of the values and of their places (4 bytes each).

    References
    ----------
    .. [1] P. Richtarik, E. Gasanov, K. Burlachenko, "Error Feedback Reloaded: From Quadratic to
       Arithmetic Mean of Smoothness Constants", ICLR 2024, arXiv:2402.10774, algorithm 1.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from skpapers.neural_network import ErrorFeedbackRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = ErrorFeedbackRegressor(ratio=0.2, random_state=0).fit(scale(X), y)
    >>> bool(model.score(scale(X), y) > 0.45), bool(model.compression_ratio_ < 0.5)
    (True, True)
    """

    def __init__(
        self,
        hidden_layer_sizes=(),
        activation="relu",
        n_workers=4,
        backend="simulated",
        compressor="topk",
        ratio=0.05,
        weights="uniform",
        lr="auto",
        max_epochs=200,
        batch_size=None,
        split="contiguous",
        timeout=600.0,
        dtype="auto",
        random_state=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.n_workers = n_workers
        self.backend = backend
        self.compressor = compressor
        self.ratio = ratio
        self.weights = weights
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.split = split
        self.timeout = timeout
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def _curvature(self):
        return 2 / self.n_outputs_  # of the mean squared error of the outputs
