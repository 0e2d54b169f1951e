"""Find the odd element of a set, with the layers of Deep Sets."""

from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted
from torch import nn

from skpapers.neural_network import TorchEstimator

from ._on_sets import OnSets
from ._set_layers import (
    PermutationEquivariantLinear,
    SetScaler,
    equivariant_stack,
    present_elements,
)

__all__ = ["DeepSetsOutlierDetector"]


class DeepSetsOutlierDetector(OnSets, TorchEstimator):
    """Find the element of each set that does not belong to it.

    Permutation-equivariant layers give each element a score that depends on the rest of its set,
    and a softmax over the set turns the scores into probabilities.

    Parameters
    ----------
    hidden : int, default=64
        Width of the hidden layers.
    n_layers : int, default=3
        Number of equivariant layers, the one that gives the score included.
    pooling : {"mean", "max"}, default="mean"
        What an element is compared with: the mean or the maximum over its set.
    activation : str or callable, default="elu"
        Name of a registered activation, or a module class.
    max_epochs : int, default=50
        Passes over the data.
    batch_size : int, default=64
        Sets in a batch; None for all of them.
    lr : float, default=1e-3
        Learning rate of Adam.
    weight_decay : float, default=1e-7
        Weight decay of the weight matrices.
    clip_norm : float, default=5.0
        Upper bound of the norm of the gradient; None for no bound.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and the odd elements made up during training.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode; ``module_(values, mask)`` takes padded sets.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features of an element; of a table, the number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X is a table with string column names.

    Notes
    -----
    `X` takes the forms that :class:`DeepSetsClassifier` lists. Without `odd_index` the training
    makes its own odd elements: in every batch, a random element of each set gives way to one of
    another set. An epoch costs O(n_elements * hidden ** 2).

    The paper finds the odd face among photographs with a convolutional network in front; here
    elements are vectors of features.

    References
    ----------
    .. [1] M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Poczos, R. Salakhutdinov and A. Smola, "Deep
       Sets", NeurIPS 2017, Lemma 3 and section 4.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.symmetry import DeepSetsOutlierDetector
    >>> rng = np.random.RandomState(0)
    >>> X = rng.standard_normal((300, 6, 1)) + 10 * rng.standard_normal((300, 1, 1))
    >>> model = DeepSetsOutlierDetector(lr=0.01, random_state=0).fit(X)
    >>> model.predict([[[4.1], [3.2], [3.9], [-4.0], [2.8]]])
    array([3])
    """

    _training_defaults = {"batch_size": 64, "weight_decay": 1e-7, "clip_norm": 5.0}
    _parameter_constraints = {
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "pooling": [StrOptions({"mean", "max"})],
        "activation": [str, callable],
    }
    _search_space = {
        "hidden": [32, 64],
        "n_layers": [2, 3],
        "pooling": ["mean", "max"],
        "lr": [1e-3, 3e-3],
    }

    @staticmethod
    def _small_params():
        return {"hidden": 16, "max_epochs": 20}

    def __init__(
        self,
        hidden=64,
        n_layers=3,
        pooling="mean",
        activation="elu",
        max_epochs=50,
        batch_size=64,
        lr=1e-3,
        weight_decay=1e-7,
        clip_norm=5.0,
        warm_start=False,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.hidden = hidden
        self.n_layers = n_layers
        self.pooling = pooling
        self.activation = activation
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, odd_index=None):
        """Learn what makes an element odd.

        Parameters
        ----------
        X : array-like of shape (n_sets, n_elements, n_features), or any other form of sets
            Sets.
        y : None
            Ignored.
        odd_index : array-like of int of shape (n_sets,), default=None
            Position of the odd element of each set, counted among the elements that are present.
            By default odd elements are made up from other sets.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, "no_validation" if odd_index is None else odd_index)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, odd_index=None):
        """Make one pass over the given sets, continuing from the present state.

        Parameters
        ----------
        X : array-like of shape (n_sets, n_elements, n_features), or any other form of sets
            Sets.
        y : None
            Ignored.
        odd_index : array-like of int of shape (n_sets,), default=None
            Position of the odd element of each set, as in ``fit``.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._partial_fit(X, "no_validation" if odd_index is None else odd_index)

    def predict(self, X):
        """Find the odd element of each set.

        Parameters
        ----------
        X : array-like of shape (n_sets, n_elements, n_features), or any other form of sets
            Sets.

        Returns
        -------
        ndarray of int of shape (n_sets,)
            Position of the odd element, counted among the elements that are present; -1 for an
            empty set.
        """
        return self._predict(_most_odd, X)

    def score_elements(self, X):
        """Compute the probability of each element to be the odd one of its set.

        Parameters
        ----------
        X : array-like of shape (n_sets, n_elements, n_features), or any other form of sets
            Sets.

        Returns
        -------
        list of ndarray of shape (m_i,)
            Probabilities, one array a set; each sums to one.
        """
        check_is_fitted(self)
        (_, mask), _ = self._parse_sets(X, reset=False)
        scores = self._predict(lambda module, inputs: module(*inputs).softmax(dim=1), X)
        return np.split(scores[mask], np.cumsum(mask.sum(axis=1))[:-1])

    def _parse(self, X, y="no_validation", *, reset):
        (values, mask), _ = self._parse_sets(X, reset=reset)
        if isinstance(y, str):
            return (values, mask), None
        return (values, mask), _check_odd_index(y, mask.sum(axis=1))

    def _encode_target(self, y, weight, *, reset):
        return y, weight

    def _encode(self, X, y, sample_weight, *, reset):
        data = super()._encode(X, y, sample_weight, reset=reset)
        if not bool(data.inputs[1].any()):
            raise ValueError("all sets of X are empty: there is nothing to fit")
        if data.y is None and data.n_rows < 2:
            raise ValueError(
                "without odd_index, fit takes odd elements from other sets: got n_samples=1"
            )
        return data

    def _make_module(self):
        widths = [self._element_width] + [self.hidden] * (self.n_layers - 1)
        return OddElementNetwork(
            equivariant_stack(widths, self.pooling, self.activation),
            PermutationEquivariantLinear(widths[-1], 1, self.pooling),
            SetScaler(self._element_width),
        )

    def _loss(self, module, batch):
        (values, mask), odd = batch.inputs, batch.y
        if odd is None:
            values, odd = make_odd(values, mask, self.net_.generator_)
        return F.cross_entropy(module(values, mask), odd, reduction="none")


class OddElementNetwork(nn.Module):
    """One logit an element, from equivariant layers; absent elements get the lowest number."""

    def __init__(self, equivariant, head, scaler):
        super().__init__()
        self.scaler = scaler
        self.equivariant = nn.ModuleList(equivariant)
        self.head = head

    def forward(self, values, mask):
        elements, lengths = present_elements(values, mask)
        elements = self.scaler(elements)
        for layer in self.equivariant:
            elements = layer(elements, lengths)
        scores = self.head(elements, lengths).reshape(-1)
        logits = scores.new_full(mask.shape, torch.finfo(scores.dtype).min)
        return logits.masked_scatter(mask, scores)


def make_odd(values, mask, generator):
    """Replace a random element of each set by a random element of another set of the batch.

    Returns the new values and the positions of the replaced elements. An empty donor replaces
    nothing.
    """
    n_sets, rows = len(values), torch.arange(len(values))
    donor = (rows + torch.randint(1, max(n_sets, 2), (n_sets,), generator=generator)) % n_sets
    sizes = mask.sum(dim=1).cpu()
    draws = torch.rand(2, n_sets, generator=generator, dtype=torch.float64)
    odd, taken = (draws * torch.stack([sizes, sizes[donor]])).long().to(values.device)
    changed = values.clone()
    ok = (sizes > 0) & (sizes[donor] > 0)
    rows, donor, odd_ok, taken = (i[ok.to(i.device)] for i in (rows, donor, odd, taken))
    changed[rows, odd_ok] = values[donor, taken]
    return changed, odd


def _most_odd(module, inputs):
    values, mask = inputs
    if values.shape[1] == 0:
        return torch.full((len(values),), -1)
    return torch.where(mask.any(dim=1), module(values, mask).argmax(dim=1), -1)


def _check_odd_index(odd_index, sizes):
    odd = check_array(odd_index, ensure_2d=False, dtype=None, input_name="odd_index")
    check_consistent_length(sizes, odd)
    if odd.ndim != 1 or odd.dtype.kind not in "iu" or (odd < 0).any() or (odd >= sizes).any():
        raise ValueError(
            "odd_index must hold one position a set, an integer from 0 to the size of the set - 1"
        )
    return odd.astype(np.int64)
