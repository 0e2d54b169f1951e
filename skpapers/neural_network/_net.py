"""The skorch net inside every estimator: whole-tensor batches, one closure a step."""

import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet

__all__ = ["DivergenceError", "Net", "StopTraining"]


class StopTraining(Exception):
    """Raised by a callback to end the training before ``max_epochs``."""


class DivergenceError(ValueError, FloatingPointError):
    """The training loss is no longer finite.

    Examples
    --------
    >>> from skpapers.neural_network import DivergenceError
    >>> issubclass(DivergenceError, ValueError)
    True
    """


class Net(NeuralNet):
    """A skorch net whose loop keeps up with a bare one.

    It takes ``(Batches, Data or None)`` in place of data sets, and an optimizer made elsewhere.
    What differs from skorch's own loop: batches are tensors already, the losses of an epoch are
    summed on the device and read once, and the loss is a function of module and batch.
    """

    loss = None  # set while training only: a bound method of the estimator would be a cycle
    clip_norm = None

    def initialize_optimizer(self, triggered_directly=None):
        self.optimizer_ = self.optimizer(self.module_)
        return self

    def _initialize_callbacks(self):
        self.callbacks_ = []
        return self

    def train(self, batches, validation, loss, callbacks, epochs):
        """Run `epochs` epochs over `batches`, with `loss(module, batch)`."""
        self.loss = loss
        self.callbacks_ = [(type(callback).__name__, callback) for callback in callbacks]
        self.batch_events_ = any(map(_wants_batches, callbacks))
        try:
            self.partial_fit((batches, validation), epochs=epochs)
        finally:
            self.loss, self.callbacks_ = None, []
            self.module_.eval()
        return self

    def get_split_datasets(self, X, y=None, **fit_params):
        return X

    def get_iterator(self, dataset, training=False):
        return dataset

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        try:
            super().fit_loop(X, y, epochs=epochs, **fit_params)
        except StopTraining:
            return self
        except KeyboardInterrupt:
            if "train_loss" not in self.history[-1]:
                self.history.pop()
            warnings.warn(
                f"training was interrupted after {len(self.history)} epochs; what was learnt so "
                "far is kept",
                ConvergenceWarning,
            )
        return self

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if not training:  # validation is the business of a callback
            return
        self.module_.train()
        total, n_rows = 0.0, 0
        for batch in iterator:
            if self.batch_events_:
                self.notify("on_batch_begin", batch=batch, training=True)
            loss = self.optimizer_.step(self._closure(batch))
            total = total + loss.detach() * batch.n_rows
            n_rows += batch.n_rows
            if self.batch_events_:
                self.notify("on_batch_end", batch=batch, training=True, loss=loss)
        self.history.record("train_loss", self._finite(total / n_rows))

    def _closure(self, batch):
        def closure():
            self.optimizer_.zero_grad(set_to_none=True)
            loss = weighted_mean(self.loss(self.module_, batch), batch.weight)
            loss.backward()
            if self.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.module_.parameters(), self.clip_norm)
            return loss

        return closure

    def _finite(self, loss):
        loss = float(loss)
        if loss - loss != 0:
            raise DivergenceError(
                f"training diverged: the loss is {loss} in epoch {len(self.history)}; scale X "
                f"(or y), or lower lr"
            )
        return loss


def weighted_mean(losses, weight):
    """Mean of per-row losses; a loss of the whole batch (a scalar) is returned as it is."""
    if losses.ndim == 0:
        return losses
    return losses.mean() if weight is None else (losses * weight).mean()


def _wants_batches(callback):
    return getattr(callback, "batch_events", False)
