"""What happens at the end of an epoch, as skorch callbacks."""

import copy
import sys

import torch
from skorch.callbacks import Callback
from tqdm import tqdm

from ._net import StopTraining

__all__ = ["EpochHook", "FlatLoss", "Notify", "Progress", "ScheduleStep", "Validation"]


class FlatLoss(Callback):
    """Stop when the training loss has not improved by `tol` for `patience` epochs."""

    def __init__(self, tol, patience):
        self.tol = tol
        self.patience = patience

    def on_train_begin(self, net, **kwargs):
        self.best_, self.misses_, self.converged_ = float("inf"), 0, False

    def on_epoch_end(self, net, **kwargs):
        loss = net.history[-1, "train_loss"]
        self.misses_ = 0 if loss < self.best_ - self.tol else self.misses_ + 1
        self.best_ = min(loss, self.best_)
        if self.misses_ >= self.patience:
            self.converged_ = True
            raise StopTraining


class Validation(Callback):
    """Score held-out rows every epoch, keep the best state, stop when it no longer improves."""

    def __init__(self, score, tol, patience):
        self.score = score
        self.tol = tol
        self.patience = patience

    def on_train_begin(self, net, **kwargs):
        self.best_score_, self.best_iter_, self.misses_ = -float("inf"), 0, 0
        self.converged_, self.state_ = False, None

    def on_epoch_end(self, net, dataset_valid, **kwargs):
        net.module_.eval()
        with torch.no_grad():
            score = float(self.score(net.module_, dataset_valid))
        net.history.record("valid_score", score)
        self.misses_ = 0 if score > self.best_score_ + self.tol else self.misses_ + 1
        if score > self.best_score_:
            self.best_score_, self.best_iter_ = score, len(net.history)
            self.state_ = copy.deepcopy(net.module_.state_dict())
        if self.misses_ >= self.patience:
            self.converged_ = True
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        if self.state_ is not None:
            net.module_.load_state_dict(self.state_)


class ScheduleStep(Callback):
    """Advance a learning-rate schedule of torch by one step an epoch, or a batch."""

    def __init__(self, scheduler, every_batch=False):
        self.scheduler = scheduler
        self.batch_events = every_batch

    def on_batch_end(self, net, **kwargs):
        if self.batch_events:
            self.scheduler.step()

    def on_epoch_end(self, net, **kwargs):
        if not self.batch_events:
            self.scheduler.step()


class EpochHook(Callback):
    """Call ``hook(module, epoch)``, with epochs counted from 0, before each epoch."""

    def __init__(self, hook):
        self.hook = hook

    def on_epoch_begin(self, net, **kwargs):
        self.hook(net.module_, len(net.history) - 1)


class Progress(Callback):
    """A progress bar over the epochs (verbose=1) or a line an epoch (verbose=2)."""

    def __init__(self, name, epochs, verbose):
        self.name = name
        self.epochs = epochs
        self.verbose = verbose

    def on_train_begin(self, net, **kwargs):
        self.bar_ = tqdm(total=self.epochs, desc=self.name, disable=self.verbose > 1)

    def on_epoch_end(self, net, **kwargs):
        logs = {k: f"{v:.4g}" for k, v in net.history[-1].items() if isinstance(v, float)}
        self.bar_.set_postfix(logs, refresh=False)
        self.bar_.update()
        if self.verbose > 1:
            words = " ".join(f"{key}={value}" for key, value in logs.items())
            print(f"{self.name} epoch {len(net.history)}: {words}", file=sys.stderr)

    def on_train_end(self, net, **kwargs):
        self.bar_.close()


class Notify(Callback):
    """Call the user's ``callback(estimator, epoch, logs)``."""

    def __init__(self, callback, estimator):
        self.callback = callback
        self.estimator = estimator

    def on_epoch_end(self, net, **kwargs):
        logs = {key: value for key, value in net.history[-1].items() if key != "batches"}
        self.callback(self.estimator, len(net.history), logs)
