"""The skorch net inside every estimator: whole-tensor batches, one closure a step."""

import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet

__all__ = ["DivergenceError", "Net", "OutputLoss", "StopTraining", "weighted_mean"]


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

    # Set while training only: bound methods of the estimator would be a cycle.
    loss = None
    output = None
    clip_norm = None

    def initialize_optimizer(self, triggered_directly=None):
        self.optimizer_ = self.optimizer(self.module_)
        return self

    def _initialize_callbacks(self):
        self.callbacks_ = []
        return self

    def train(self, batches, validation, loss, callbacks, epochs, output=None):
        """Run `epochs` epochs over `batches`, with `loss(module, batch)`.

        An optimizer with ``needs_outputs`` gets its two halves instead: ``output(module, batch)``
        returns the output of the network and the loss as a function of that.
        """
        self.loss, self.output = loss, output
        self.callbacks_ = [(type(callback).__name__, callback) for callback in callbacks]
        self.batch_events_ = any(map(_wants_batches, callbacks))
        try:
            self.partial_fit((batches, validation), epochs=epochs)
        finally:
            self.loss, self.output, self.callbacks_ = None, None, []
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
        splits_loss = getattr(self.optimizer_, "needs_outputs", False)
        make_closure = self._output_closure if splits_loss else self._closure
        for batch in iterator:
            if self.batch_events_:
                self.notify("on_batch_begin", batch=batch, training=True)
            loss = self.optimizer_.step(make_closure(batch))
            total = total + loss.detach() * batch.n_rows
            n_rows += batch.n_rows
            if self.batch_events_:
                self.notify("on_batch_end", batch=batch, training=True, loss=loss)
        self.history.record("train_loss", self._finite(total / n_rows))

    def _closure(self, batch):
        """The loss of a batch and its gradients, or, with ``backward=False``, the loss alone."""
        repeat_draws = self._repeatable()

        def closure(backward=True):
            repeat_draws()
            if not backward:
                with torch.no_grad():
                    return weighted_mean(self.loss(self.module_, batch), batch.weight)
            self.optimizer_.zero_grad(set_to_none=True)
            loss = weighted_mean(self.loss(self.module_, batch), batch.weight)
            loss.backward()
            if self.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.module_.parameters(), self.clip_norm)
            return loss

        return closure

    def _output_closure(self, batch):
        """The output of the network, with its graph, and the loss as a function of it."""
        if self.output is None:
            raise TypeError(
                f"{type(self.optimizer_).__name__} needs a loss that is a function of the output "
                "of the network, which this estimator does not have"
            )
        repeat_draws = self._repeatable()

        def closure():
            repeat_draws()
            return self.output(self.module_, batch)

        return closure

    def _repeatable(self):
        """A function that makes the evaluations of one step draw the same masks of dropout."""
        generator = self.generator_
        state = generator.get_state()
        return lambda: generator.set_state(state)

    def _finite(self, loss):
        loss = float(loss)
        if loss - loss != 0:
            raise DivergenceError(
                f"training diverged: the loss is {loss} in epoch {len(self.history)}; scale X "
                f"(or y), or lower lr"
            )
        return loss


class OutputLoss:
    """The mean loss of a batch as a function of the output of the network.

    `name` is the registered name of the loss, or that of the function.
    """

    def __init__(self, criterion, name, batch):
        self.criterion, self.name = criterion, name
        self.target, self.weight = batch.y, batch.weight

    def __call__(self, output):
        reduction = "mean" if self.weight is None else "none"
        losses = self.criterion(output, self.target, reduction=reduction)
        return weighted_mean(losses, self.weight)


def weighted_mean(losses, weight):
    """Mean of per-row losses; a loss of the whole batch (a scalar) is returned as it is."""
    if losses.ndim == 0:
        return losses
    return losses.mean() if weight is None else (losses * weight).mean()


def _wants_batches(callback):
    return getattr(callback, "batch_events", False)
