"""The bridge: one scikit-learn base class for every estimator trained with torch."""

import inspect
import warnings
from abc import ABC, abstractmethod
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, draw_seed, weighted_rows

from ._callbacks import EpochHook, FlatLoss, Notify, Progress, ScheduleStep, Validation
from ._data import Batches, Data
from ._net import Net, weighted_mean
from ._optimizer import make_optimizer
from ._random import build_module, torch_generator
from ._registry import get_registry

__all__ = ["TorchEstimator", "resolve_device"]

_PREDICT_ROWS = 8192

_TRAINING_CONSTRAINTS = {
    "optimizer": [str, callable],
    "optimizer_params": [dict, None],
    "lr": [Interval(Real, 0, None, closed="neither")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "lr_schedule": [str, callable, None],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "max_epochs": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
    "device": [str, torch.device],
    "warm_start": ["boolean"],
    "callbacks": [list, tuple, None],
    "verbose": ["verbose"],
    "random_state": ["random_state"],
}

# What a subclass that has no such parameter trains with.
_TRAINING_DEFAULTS = {
    "optimizer": "adam",
    "optimizer_params": None,
    "lr": 1e-3,
    "weight_decay": 0.0,
    "lr_schedule": None,
    "clip_norm": None,
    "max_epochs": 100,
    "batch_size": 128,
    "early_stopping": False,
    "validation_fraction": 0.1,
    "n_iter_no_change": 10,
    "tol": 0.0,
    "dtype": "auto",
    "device": "auto",
    "warm_start": False,
    "callbacks": None,
    "verbose": 0,
    "random_state": None,
}


class TorchEstimator(BaseEstimator, ABC):
    """Base of the estimators that are trained with torch.

    It owns a skorch net (``net_``) and everything around the training: validation, devices and
    dtypes, seeding without global state, sample weights, early stopping, ``partial_fit``,
    ``warm_start``, progress, interrupts and pickling. A subclass says what the paper is about:

    - ``_make_module()`` returns a ``torch.nn.Module``. It is called on the meta device and
      initialised afterwards: a module with parameters or buffers of its own has a method
      ``init_parameters(generator)`` that sets them, draws included. ``n_features_in_``,
      ``classes_`` and the like are known by then.
    - ``_loss(module, batch)`` returns the loss of each row, shape (n,), or, when ``batch.weight``
      is None, their mean; or a scalar that belongs to the batch as a whole. ``batch.inputs`` is a
      tuple of tensors, ``batch.y`` the encoded target or None.

    and, where it needs to,

    - ``_parse(X, y, reset)`` for inputs that are no tables: returns a tuple of arrays, tensors or
      CSR matrices with one entry a row, and `y`;
    - ``_encode_target(y, weight, reset)`` returns the target as an array and the weights
      (the classifier and regressor mixins do);
    - ``_on_fit_begin(module, data)`` for an initialisation that looks at the data, and
      ``_on_fit_end(data)`` for what is computed once training is over;
    - ``_on_epoch_begin(module, epoch)`` for what changes during training, epochs counted from 0;
    - ``_even_batches = True`` where the loss is one of the batch, and ``_make_batches(data,
      generator)`` for batches of another kind;
    - ``_make_optimizer(module)``;
    - ``_loss_halves()``, for optimizers that differentiate the loss by the output of the network;
    - ``_setting(name)`` where a parameter of the training follows from others;
    - ``_rows_at_once(inputs)``, how many rows are predicted at a time;
    - ``_validation_score(module, data)`` for early stopping (minus the loss by default).

    A subclass declares as ``__init__`` parameters those of the training it wants its users to set
    (they need no constraints of their own); the others have the values of
    ``_training_defaults``, which a subclass may override: ``{"lr": 1e-2, "tol": 1e-4}``.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained module, in eval mode.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features seen during fit.

    Notes
    -----
    Draws are made on the CPU and moved, so that a seed means the same on every device.

    Examples
    --------
    See :class:`TorchClassifier`, :class:`TorchRegressor` and :class:`TorchTransformer`, which
    add what a classifier, a regressor and a transformer have in common.

    >>> from skpapers.neural_network import NeuralClassifier, TorchEstimator
    >>> issubclass(NeuralClassifier, TorchEstimator)
    True
    """

    _training_defaults = {}
    _parameter_constraints = {}

    def __init_subclass__(cls, **kwargs):
        """Let a subclass declare only the defaults and constraints of its own parameters."""
        super().__init_subclass__(**kwargs)
        cls._declared_constraints = vars(cls).get("_parameter_constraints", {})
        known, defaults = dict(_TRAINING_CONSTRAINTS), dict(_TRAINING_DEFAULTS)
        for base in reversed(cls.__mro__):
            own = vars(base)
            known |= own.get("_declared_constraints", own.get("_parameter_constraints", {}))
            defaults |= own.get("_declared_defaults", own.get("_training_defaults", {}))
        names = inspect.signature(cls.__init__).parameters
        cls._parameter_constraints = {k: v for k, v in known.items() if k in names}
        cls._declared_defaults = vars(cls).get("_training_defaults", {})
        cls._training_defaults = defaults

    # What a subclass provides or may override.

    @abstractmethod
    def _make_module(self):
        """Build the network."""

    @abstractmethod
    def _loss(self, module, batch):
        """Compute the loss of each row of a batch."""

    def _parse(self, X, y="no_validation", *, reset):
        X = validate_data(
            self,
            X,
            y,
            reset=reset,
            dtype=self._dtypes(),
            accept_sparse="csr" if self.__sklearn_tags__().input_tags.sparse else False,
            **({} if isinstance(y, str) else self._target_checks()),
        )
        return ((X[0],), X[1]) if isinstance(X, tuple) else ((X,), None)

    def _target_checks(self):
        return {}

    def _encode_target(self, y, weight, *, reset):
        return None, weight

    def _loss_halves(self):
        """A function from module and batch to output and :class:`OutputLoss`, if there is one."""

    _on_epoch_begin = None
    _even_batches = False

    def _on_fit_begin(self, module, data):
        pass

    def _on_fit_end(self, data):
        pass

    def _make_batches(self, data, generator):
        batch_size, device = self._setting("batch_size"), self._device()
        return Batches(data, batch_size, generator, device, even=self._even_batches)

    def _rows_at_once(self, inputs):
        return _PREDICT_ROWS

    def _make_optimizer(self, module):
        return make_optimizer(
            module,
            self._setting("optimizer"),
            lr=self._setting("lr"),
            weight_decay=self._setting("weight_decay"),
            params=self._setting("optimizer_params"),
        )

    def _validation_score(self, module, data):
        return -weighted_mean(self._loss(module, data), data.weight)

    # Fitting.

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Fit the model to the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X)

    def _fit(self, X, y="no_validation", sample_weight=None):
        continuing = self._setting("warm_start") and hasattr(self, "net_")
        rng = check_random_state(self._setting("random_state"))
        data = self._encode(X, y, sample_weight, reset=not continuing)
        train, validation = self._split(data, rng)
        if not continuing:
            self._build(train, rng)
        return self._train(train, validation, self._setting("max_epochs"))

    def _partial_fit(self, X, y="no_validation", sample_weight=None):
        first = not hasattr(self, "net_")
        data = self._encode(X, y, sample_weight, reset=first)
        if first:
            self._build(data, check_random_state(self._setting("random_state")))
        return self._train(data, None, 1)

    def _encode(self, X, y, sample_weight, *, reset):
        """Validate, drop rows without weight, and turn the rest into tensors."""
        inputs, y = self._parse(X, y, reset=reset)
        check_consistent_length(*inputs, y)
        if sample_weight is not None:
            keep, sample_weight = weighted_rows(sample_weight, inputs[0])
            inputs, y = tuple(x[keep] for x in inputs), None if y is None else y[keep]
        target, weight = self._encode_target(y, sample_weight, reset=reset)
        dtype = self._tensor_dtype(inputs)
        if weight is not None:
            weight = _tensor(weight / weight.mean()).to(dtype)
            weight = None if bool((weight == 1).all()) else weight
        return Data(tuple(map(_tensor, inputs)), _target_tensor(target, dtype), weight)

    def _build(self, data, rng):
        """Make the net: a freshly initialised module and its optimizer."""
        generator = torch_generator(rng)
        module = self._build_module(generator, self._tensor_dtype(data.inputs))
        with torch.no_grad():
            self._on_fit_begin(module, data)
        self.net_ = Net(
            module,
            criterion=torch.nn.Identity(),
            optimizer=self._make_optimizer,
            train_split=None,
            device=str(self._device()),
            verbose=0,
        ).initialize()
        self.net_.optimizer = type(self.net_.optimizer_)  # drop the reference to this estimator
        self.net_.clip_norm = self._setting("clip_norm")
        self.net_.generator_ = generator

    def _build_module(self, generator, dtype):
        return build_module(self._make_module, generator, dtype)

    def _train(self, train, validation, epochs):
        stop = self._stopping(validation)
        batches = self._make_batches(train, self.net_.generator_)
        self._tell_length(batches)
        callbacks = [stop, *self._schedules(batches, epochs), *self._extra_callbacks(epochs)]
        if validation is not None:
            validation = validation.to(self._device())
        before = len(self.net_.history)
        halves = self._loss_halves()
        self.net_.train(batches, validation, self._loss, callbacks, epochs, halves)
        if isinstance(stop, Validation):
            self.best_iter_ = stop.best_iter_
            self.validation_scores_ = self.net_.history[:, "valid_score"]
        elif self._setting("tol") and not stop.converged_ and len(self.net_.history) > before + 1:
            warnings.warn(
                f"max_epochs={epochs} ended before the training loss stopped improving by "
                f"tol={self._setting('tol')}: raise max_epochs or lr",
                ConvergenceWarning,
                stacklevel=3,
            )
        with torch.no_grad():
            self._on_fit_end(train)
        return self

    def _stopping(self, validation):
        tol, patience = self._setting("tol"), self._setting("n_iter_no_change")
        if validation is not None:
            return Validation(self._validation_score, tol, patience)
        return FlatLoss(tol, patience if tol else float("inf"))

    def _tell_length(self, batches):
        """Tell the optimizer how long the training is, if that is an option it lacks.

        Passes by ``partial_fit`` are taken for the first of `max_epochs`.
        """
        for group in self.net_.optimizer_.param_groups:
            if group.get("steps_per_epoch", 0) is None:
                group["steps_per_epoch"] = len(batches)
            if group.get("total_steps", 0) is None:
                group["total_steps"] = len(batches) * self._setting("max_epochs")

    def _schedules(self, batches, epochs):
        """The schedule of the rate: it advances every epoch, or every batch if it counts these."""
        optimizer, name = self.net_.optimizer_, self._setting("lr_schedule")
        for group in optimizer.param_groups:  # an earlier schedule has lowered the rate
            group["lr"] = group.pop("initial_lr", group["lr"])
        if name is None or epochs == 1:
            return
        make = get_registry("schedule").resolve(name)
        if "steps_per_epoch" in inspect.signature(make).parameters:
            schedule = make(optimizer, epochs, steps_per_epoch=len(batches))
            yield ScheduleStep(schedule, every_batch=True)
        else:
            yield ScheduleStep(make(optimizer, epochs))

    def _extra_callbacks(self, epochs):
        if self._on_epoch_begin is not None:
            yield EpochHook(self._on_epoch_begin)
        if self._setting("verbose") and epochs > 1:
            yield Progress(type(self).__name__, epochs, int(self._setting("verbose")))
        for callback in self._setting("callbacks") or ():
            yield Notify(callback, self)

    def _split(self, data, rng):
        """Hold out rows for early stopping; classes keep their shares."""
        if not self._setting("early_stopping"):
            return data, None
        classes = data.y if hasattr(self, "classes_") else None
        train, held_out = train_test_split(
            np.arange(data.n_rows),
            test_size=self._setting("validation_fraction"),
            stratify=classes,
            random_state=draw_seed(rng),
        )
        return data.take(torch.from_numpy(train)), data.take(torch.from_numpy(held_out))

    # Prediction.

    def _predict(self, function, X):
        """Concatenate ``function(module, inputs)`` over batches of validated rows."""
        check_is_fitted(self)
        inputs, _ = self._parse(X, reset=False)
        dtype = next(self.module_.parameters()).dtype
        data = Data(tuple(map(_tensor, inputs)))
        n_rows = self._rows_at_once(inputs)
        with torch.inference_mode():
            pieces = [
                function(self.module_, tuple(_cast(x, dtype) for x in batch.inputs)).cpu()
                for batch in Batches(data, n_rows, None, self._device(), shuffle=False)
            ]
        return torch.cat(pieces).numpy()

    # Settings.

    def _setting(self, name):
        """Value of a training parameter, whether or not the subclass exposes it."""
        return getattr(self, name, self._training_defaults[name])

    def _device(self):
        return resolve_device(self._setting("device"))

    def _dtypes(self):
        dtype = self._setting("dtype")
        return [np.float64, np.float32] if dtype == "auto" else np.dtype(dtype)

    def _tensor_dtype(self, inputs):
        return torch.float32 if str(inputs[0].dtype).endswith("float32") else torch.float64

    # Fitted attributes that live in the net.

    @property
    def module_(self):
        """The trained module."""
        return self.net_.module_

    @property
    def history_(self):
        """One dict an epoch, with ``train_loss`` and, with early stopping, ``valid_score``."""
        return [{k: v for k, v in row.items() if k != "batches"} for row in self.net_.history]

    @property
    def loss_curve_(self):
        """Mean training loss of each epoch."""
        return self.net_.history[:, "train_loss"]

    @property
    def n_iter_(self):
        """Number of epochs run."""
        return len(self.net_.history)


def resolve_device(device):
    """Turn "auto" or the name of a device into a device that is there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda[:i]', got {device!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={str(device)!r}, but there is no CUDA device here")
    return device


def _tensor(x):
    """Make a tensor that owns its memory (read-only arrays and negative strides are fine)."""
    if torch.is_tensor(x) or hasattr(x, "tocsr"):
        return x
    return torch.from_numpy(np.array(x, order="C"))


def _cast(x, dtype):
    return x.to(dtype) if x.is_floating_point() else x


def _target_tensor(y, dtype):
    if y is None:
        return None
    y = _tensor(y)
    return y.to(dtype) if y.is_floating_point() else y
