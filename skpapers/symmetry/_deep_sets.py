"""Deep Sets: networks on samples that are sets (Zaheer et al., 2017)."""

import functools
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted
from torch import nn

from skpapers.neural_network import (
    Dropout,
    TorchClassifier,
    TorchEstimator,
    TorchRegressor,
    get_registry,
    make_mlp,
)
from skpapers.structure import as_sets, validate_structured

__all__ = [
    "DeepSetsClassifier",
    "DeepSetsOutlierDetector",
    "DeepSetsRegressor",
    "PermutationEquivariantLinear",
]

_PREDICT_ELEMENTS = 2**17  # elements (absent ones included) that go through the net at a time


class _OnSets:
    """What every estimator on sets shares: parsing, standardisation, batches of prediction."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _parse_sets(self, X, y="no_validation", *, reset, **y_checks):
        out = validate_structured(self, X, y, parser=as_sets, reset=reset, **y_checks)
        sets, y = out if isinstance(out, tuple) else (out, None)
        if reset:
            self._element_width = sets.n_features
        elif sets.n_features != self._element_width:
            raise ValueError(
                f"X has elements of {sets.n_features} features, but {type(self).__name__} was "
                f"fitted on elements of {self._element_width} features"
            )
        return sets.to_padded(), y

    def _on_fit_begin(self, module, data):
        module.scaler.fit(*data.inputs, data.weight)

    def _predict(self, function, X):
        return super()._predict(functools.partial(_in_chunks, function), X)


class _DeepSets(_OnSets, ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """What the classifier and the regressor share: the network and its parameters."""

    _training_defaults = {"batch_size": 64, "weight_decay": 1e-7, "clip_norm": 5.0}
    _parameter_constraints = {
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "latent": [Interval(Integral, 1, None, closed="left")],
        "n_phi_layers": [Interval(Integral, 1, None, closed="left")],
        "n_rho_layers": [Interval(Integral, 1, None, closed="left")],
        "equivariant_layers": [Interval(Integral, 0, None, closed="left")],
        "pooling": [StrOptions({"sum", "mean", "max"})],
        "activation": [str, callable],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "loss": [StrOptions({"squared_error", "absolute_error"})],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "augment": [callable, None],
    }
    _search_space = {
        "hidden": [32, 64],
        "pooling": ["sum", "mean", "max"],
        "equivariant_layers": [0, 1],
        "lr": [1e-3, 3e-3],
    }

    @staticmethod
    def _small_params():
        return {"hidden": 16, "latent": 8, "max_epochs": 10}

    def _parse(self, X, y="no_validation", *, reset):
        return self._parse_sets(X, y, reset=reset, **self._target_checks())

    def _make_module(self):
        width = self.hidden if self.equivariant_layers else self._element_width
        mlp = functools.partial(make_mlp, activation=self.activation)
        hidden_phi = [self.hidden] * (self.n_phi_layers - 1)
        hidden_rho = [self.hidden] * (self.n_rho_layers - 1)
        rho = mlp(self.latent, hidden_rho, self._n_outputs(), dropout=self.dropout)
        return DeepSetsNetwork(
            mlp(width, hidden_phi, self.latent),
            nn.Sequential(Dropout(self.dropout), rho),
            self.pooling,
            scaler=SetScaler(self._element_width),
            equivariant=_equivariant_stack(
                [self._element_width] + [self.hidden] * self.equivariant_layers,
                "max" if self.pooling == "max" else "mean",
                self.activation,
            ),
        )

    def _loss(self, module, batch):
        if self.augment is not None and module.training:
            values, mask = batch.inputs
            values = self.augment(values, self.net_.generator_)
            batch = batch._replace(inputs=(values, mask))
        return super()._loss(module, batch)

    @property
    def _n_features_out(self):
        return self.latent

    def transform(self, X):
        """Embed each set: the pooled outputs of phi.

        Parameters
        ----------
        X : array-like of shape (n_sets, n_elements, n_features), or any other form of sets
            Sets.

        Returns
        -------
        ndarray of shape (n_sets, latent)
            Embeddings.
        """
        return self._predict(lambda module, inputs: module.embed(*inputs), X)


class DeepSetsClassifier(_DeepSets, TorchClassifier):
    """Classify sets: the order of the elements does not matter, their number may vary.

    The network is ``rho(pool(phi(x) for x in the set))`` with perceptrons phi and rho: every
    function of a set is of this form.

    Parameters
    ----------
    hidden : int, default=64
        Width of the hidden layers of phi and rho.
    latent : int, default=64
        Width of the embedding of a set, the output of phi.
    n_phi_layers : int, default=3
        Number of linear layers of phi; the last one has no activation.
    n_rho_layers : int, default=2
        Number of linear layers of rho.
    equivariant_layers : int, default=0
        Number of permutation-equivariant layers in front of phi, through which elements see the
        rest of their set. They pool with the maximum if `pooling` is "max", else with the mean.
    pooling : {"sum", "mean", "max"}, default="sum"
        How elements are joined. Use "sum" for what grows with the set, "mean" for statistics of a
        sample, "max" for shapes.
    activation : str or callable, default="elu"
        Name of a registered activation, or a module class.
    dropout : float, default=0.0
        Probability of zeroing a unit of the embedding and of the hidden layers of rho.
    max_epochs : int, default=100
        Passes over the data.
    batch_size : int, default=64
        Sets in a batch; None for all of them.
    lr : float, default=1e-3
        Learning rate of Adam.
    weight_decay : float, default=1e-7
        Weight decay of the weight matrices.
    clip_norm : float, default=5.0
        Upper bound of the norm of the gradient; None for no bound.
    class_weight : dict or "balanced", default=None
        Weights of the classes; "balanced" makes all classes weigh the same.
    early_stopping : bool, default=False
        Hold out a tenth of the sets, stop when their score has not improved for ten epochs, and
        keep the best epoch.
    augment : callable, default=None
        ``augment(values, generator)`` returns a changed copy of the training batch `values`, a
        tensor of shape (n_sets, max_size, n_features) with zeros for absent elements;
        `generator` is the torch.Generator to draw from.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, dropout, augmentation and the validation split.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
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
    validation_scores_ : list of float
        Score on the held-out sets after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch whose weights were kept; with `early_stopping` only.
    n_features_in_ : int
        Number of features of an element; of a table, the number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X is a table with string column names.

    Notes
    -----
    `X` is an array of shape (n_sets, n_elements, n_features) in which rows of NaN are absent
    elements, a list of arrays of shape (m_i, n_features), a :class:`skpapers.structure.Ragged`, or
    a table of shape (n_sets, n_elements): sets of scalars. Which column a scalar stands in is then
    deliberately ignored, hence the accuracy on ordinary tables is poor. Sets may be empty.

    Elements are standardised with the means and standard deviations of the training data (of the
    first call, for ``partial_fit``). An epoch costs O(n_elements * hidden ** 2); absent elements
    are never computed. The data are stored padded to the largest set.

    References
    ----------
    .. [1] M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Poczos, R. Salakhutdinov and A. Smola, "Deep
       Sets", NeurIPS 2017, Theorem 2 and section 3.

    Examples
    --------
    Bags of points, some of which reach far out:

    >>> import numpy as np
    >>> from skpapers.symmetry import DeepSetsClassifier
    >>> rng = np.random.RandomState(0)
    >>> bags = [rng.standard_normal((m, 2)) for m in rng.randint(1, 8, size=200)]
    >>> y = np.array(["far" if np.abs(bag).max() > 1.5 else "near" for bag in bags])
    >>> model = DeepSetsClassifier(pooling="max", lr=0.01, max_epochs=30, random_state=0)
    >>> model.fit(bags, y).score(bags, y) > 0.9
    True
    """

    def __init__(
        self,
        hidden=64,
        latent=64,
        n_phi_layers=3,
        n_rho_layers=2,
        equivariant_layers=0,
        pooling="sum",
        activation="elu",
        dropout=0.0,
        max_epochs=100,
        batch_size=64,
        lr=1e-3,
        weight_decay=1e-7,
        clip_norm=5.0,
        class_weight=None,
        early_stopping=False,
        augment=None,
        warm_start=False,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.hidden = hidden
        self.latent = latent
        self.n_phi_layers = n_phi_layers
        self.n_rho_layers = n_rho_layers
        self.equivariant_layers = equivariant_layers
        self.pooling = pooling
        self.activation = activation
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.augment = augment
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags

    def _n_outputs(self):
        return len(self.classes_)


class DeepSetsRegressor(_DeepSets, TorchRegressor):
    """Predict numbers from sets: the order of the elements does not matter, their number may vary.

    The network is ``rho(pool(phi(x) for x in the set))`` with perceptrons phi and rho: every
    function of a set is of this form.

    Parameters
    ----------
    hidden : int, default=64
        Width of the hidden layers of phi and rho.
    latent : int, default=64
        Width of the embedding of a set, the output of phi.
    n_phi_layers : int, default=3
        Number of linear layers of phi; the last one has no activation.
    n_rho_layers : int, default=2
        Number of linear layers of rho.
    equivariant_layers : int, default=0
        Number of permutation-equivariant layers in front of phi, through which elements see the
        rest of their set. They pool with the maximum if `pooling` is "max", else with the mean.
    pooling : {"sum", "mean", "max"}, default="sum"
        How elements are joined. Use "sum" for what grows with the set, "mean" for statistics of a
        sample, "max" for shapes.
    activation : str or callable, default="elu"
        Name of a registered activation, or a module class.
    dropout : float, default=0.0
        Probability of zeroing a unit of the embedding and of the hidden layers of rho.
    max_epochs : int, default=100
        Passes over the data.
    batch_size : int, default=64
        Sets in a batch; None for all of them.
    lr : float, default=1e-3
        Learning rate of Adam.
    weight_decay : float, default=1e-7
        Weight decay of the weight matrices.
    clip_norm : float, default=5.0
        Upper bound of the norm of the gradient; None for no bound.
    loss : {"squared_error", "absolute_error"}, default="squared_error"
        Loss on the standardised target.
    early_stopping : bool, default=False
        Hold out a tenth of the sets, stop when their score has not improved for ten epochs, and
        keep the best epoch.
    augment : callable, default=None
        ``augment(values, generator)`` returns a changed copy of the training batch `values`, a
        tensor of shape (n_sets, max_size, n_features) with zeros for absent elements;
        `generator` is the torch.Generator to draw from.
    warm_start : bool, default=False
        Continue from the state of the last fit, optimizer included.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, dropout, augmentation and the validation split.

    Attributes
    ----------
    n_outputs_ : int
        Number of targets.
    y_mean_ : ndarray of shape (n_outputs_,)
        Mean of each target.
    y_scale_ : ndarray of shape (n_outputs_,)
        Standard deviation of each target; 1 for a constant one.
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
    validation_scores_ : list of float
        Score on the held-out sets after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch whose weights were kept; with `early_stopping` only.
    n_features_in_ : int
        Number of features of an element; of a table, the number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X is a table with string column names.

    Notes
    -----
    `X` is as in :class:`DeepSetsClassifier`; of a table, which column a scalar stands in is
    deliberately ignored, hence the score on ordinary tables is poor. An epoch costs
    O(n_elements * hidden ** 2). With "sum" pooling, predictions extend to sets larger than those
    of the training if the target is a sum itself; a linear rho (``n_rho_layers=1``) then
    extrapolates best. The paper's experiment with up to 100 digits a set is tested here with 20.

    References
    ----------
    .. [1] M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Poczos, R. Salakhutdinov and A. Smola, "Deep
       Sets", NeurIPS 2017, Theorem 2, sections 4.1.1 and 4.1.2.

    Examples
    --------
    The spread of samples of different sizes:

    >>> import numpy as np
    >>> from skpapers.symmetry import DeepSetsRegressor
    >>> rng = np.random.RandomState(0)
    >>> spread = rng.uniform(0.5, 2, size=200)
    >>> bags = [s * rng.standard_normal((m, 1)) for s, m in zip(spread, rng.randint(30, 60, 200))]
    >>> model = DeepSetsRegressor(pooling="mean", max_epochs=60, random_state=0)
    >>> model.fit(bags, spread).score(bags, spread) > 0.8
    True
    """

    def __init__(
        self,
        hidden=64,
        latent=64,
        n_phi_layers=3,
        n_rho_layers=2,
        equivariant_layers=0,
        pooling="sum",
        activation="elu",
        dropout=0.0,
        max_epochs=100,
        batch_size=64,
        lr=1e-3,
        weight_decay=1e-7,
        clip_norm=5.0,
        loss="squared_error",
        early_stopping=False,
        augment=None,
        warm_start=False,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.hidden = hidden
        self.latent = latent
        self.n_phi_layers = n_phi_layers
        self.n_rho_layers = n_rho_layers
        self.equivariant_layers = equivariant_layers
        self.pooling = pooling
        self.activation = activation
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.loss = loss
        self.early_stopping = early_stopping
        self.augment = augment
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags

    def _n_outputs(self):
        return self.n_outputs_


class DeepSetsOutlierDetector(_OnSets, TorchEstimator):
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
            _equivariant_stack(widths, self.pooling, self.activation),
            PermutationEquivariantLinear(widths[-1], 1, self.pooling),
            SetScaler(self._element_width),
        )

    def _loss(self, module, batch):
        (values, mask), odd = batch.inputs, batch.y
        if odd is None:
            values, odd = make_odd(values, mask, self.net_.generator_)
        return F.cross_entropy(module(values, mask), odd, reduction="none")


class PermutationEquivariantLinear(nn.Module):
    """A linear layer on the elements of a set that commutes with every permutation of them.

    ``layer(x) = x A + b - 1 pool(x) C``, with the pool over the elements. With the mean, these are
    all the linear equivariant maps.

    Parameters
    ----------
    in_features : int
        Number of features of an element.
    out_features : int
        Number of features of an element afterwards.
    pooling : {"mean", "max", "sum"}, default="max"
        How the elements are pooled.
    tied : bool, default=False
        Whether ``A`` and ``C`` are the same matrix, so that the layer is linear in
        ``x - pool(x)``.

    References
    ----------
    .. [1] M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Poczos, R. Salakhutdinov and A. Smola, "Deep
       Sets", NeurIPS 2017, Lemma 3 and equations 4 and 5.

    Examples
    --------
    >>> import torch
    >>> from skpapers.symmetry import PermutationEquivariantLinear
    >>> layer = PermutationEquivariantLinear(3, 2)
    >>> x = torch.randn(7, 5, 3)
    >>> torch.allclose(layer(x.flip(1)), layer(x).flip(1), atol=1e-6)
    True
    """

    def __init__(self, in_features, out_features, pooling="max", tied=False):
        super().__init__()
        self.pooling = pooling
        self.element = nn.Linear(in_features, out_features)
        self.context = None if tied else nn.Linear(in_features, out_features, bias=False)

    def forward(self, x, lengths=None):
        """Transform the elements of each set.

        Parameters
        ----------
        x : torch.Tensor of shape (..., n_elements, in_features)
            Elements of sets of one size; or, with `lengths`, a tensor of shape (n_elements,
            in_features) with the elements of all sets, set after set.
        lengths : torch.Tensor of int of shape (n_sets,), default=None
            Sizes of the sets.

        Returns
        -------
        torch.Tensor of shape (..., n_elements, out_features)
            The new elements.
        """
        pooled = pool(x, self.pooling, lengths)
        if self.context is None:
            return self.element(x - _spread(pooled, lengths))
        return self.element(x) - _spread(self.context(pooled), lengths)


class DeepSetsNetwork(nn.Module):
    """The network rho(pool(phi(x))), with an optional equivariant stack in front of phi."""

    def __init__(self, phi, rho, pooling, scaler=None, equivariant=()):
        super().__init__()
        self.scaler = scaler
        self.equivariant = nn.ModuleList(equivariant)
        self.phi = phi
        self.rho = rho
        self.pooling = pooling

    def embed(self, values, mask):
        elements, lengths = present_elements(values, mask)
        elements = elements if self.scaler is None else self.scaler(elements)
        for layer in self.equivariant:
            elements = layer(elements, lengths)
        return pool(self.phi(elements), self.pooling, lengths)

    def forward(self, values, mask):
        pooled = self.embed(values, mask)
        if self.pooling == "sum" and self.scaler is not None:
            pooled = pooled / self.scaler.size  # a constant: rho starts with inputs of order one
        return self.rho(pooled)


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


class EquivariantBlock(nn.Module):
    """A permutation-equivariant linear layer and an activation."""

    def __init__(self, n_in, n_out, pooling, activation):
        super().__init__()
        self.linear = PermutationEquivariantLinear(n_in, n_out, pooling)
        self.activation = get_registry("activation").resolve(activation)()

    def forward(self, x, lengths=None):
        return self.activation(self.linear(x, lengths))


class SetScaler(nn.Module):
    """Standardise elements with the means and standard deviations of the training data.

    It also knows the mean size of the training sets.
    """

    def __init__(self, n_features):
        super().__init__()
        self.register_buffer("mean", torch.empty(n_features))
        self.register_buffer("scale", torch.empty(n_features))
        self.register_buffer("size", torch.empty(()))

    def init_parameters(self, generator):
        self.mean.zero_()
        self.scale.fill_(1)
        self.size.fill_(1)

    def fit(self, values, mask, weight=None):
        """Set the statistics, where a set's elements weigh as much as the set."""
        elements = values[mask].double()
        share = mask.double() if weight is None else mask * weight.double()[:, None]
        self.size.copy_((share.sum() / len(mask)).clamp(min=1))
        share = share[mask]
        total = share.sum().clamp(min=torch.finfo(share.dtype).tiny)
        mean = share @ elements / total
        elements -= mean
        spread = (share @ elements.square_() / total).sqrt()
        constant = spread <= 1e-12 * mean.abs()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(constant | (spread == 0), torch.ones_like(spread), spread))

    def forward(self, elements):
        return (elements - self.mean) / self.scale


def present_elements(values, mask):
    """Return what to compute on: (values, None) if all are present, else (elements, sizes)."""
    if bool(mask.all()):
        return values, None
    return values[mask], mask.sum(dim=1)


def pool(x, how, lengths=None):
    """Pool the elements of each set; an empty set gives zeros.

    `x` is (..., n_elements, n_features) or, with `lengths`, the elements of all sets laid end to
    end.
    """
    if lengths is not None:
        return _pool_segments(x, how, lengths)
    if x.shape[-2] == 0:
        return x.sum(dim=-2)
    return {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[how](x, dim=-2)


def _pool_segments(x, how, lengths):
    reduce = functools.partial(torch.segment_reduce, x, lengths=lengths, axis=0, unsafe=True)
    if how == "max":
        pooled = reduce("max", initial=-torch.inf)
        return pooled.masked_fill((lengths == 0)[:, None], 0)
    total = reduce("sum", initial=0)
    return total if how == "sum" else total / lengths.clamp(min=1)[:, None]


def _spread(pooled, lengths=None):
    """Give what belongs to a set to each of its elements."""
    if lengths is None:
        return pooled.unsqueeze(-2)
    return pooled.repeat_interleave(lengths, dim=0)


def _equivariant_stack(widths, pooling, activation):
    return [EquivariantBlock(a, b, pooling, activation) for a, b in zip(widths, widths[1:])]


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


def _in_chunks(function, module, inputs):
    """Apply `function` to so few sets at a time that memory stays bounded."""
    rows = max(1, _PREDICT_ELEMENTS // max(inputs[0].shape[1], 1))
    pieces = zip(*(x.split(rows) for x in inputs))
    return torch.cat([function(module, piece) for piece in pieces])


def _check_odd_index(odd_index, sizes):
    odd = check_array(odd_index, ensure_2d=False, dtype=None, input_name="odd_index")
    check_consistent_length(sizes, odd)
    if odd.ndim != 1 or odd.dtype.kind not in "iu" or (odd < 0).any() or (odd >= sizes).any():
        raise ValueError(
            "odd_index must hold one position a set, an integer from 0 to the size of the set - 1"
        )
    return odd.astype(np.int64)
