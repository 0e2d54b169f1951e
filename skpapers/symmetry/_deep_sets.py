"""Deep Sets: networks on samples that are sets (Zaheer et al., 2017)."""

import functools
from numbers import Integral, Real

from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from skpapers.neural_network import Dropout, TorchClassifier, TorchRegressor, make_mlp

from ._on_sets import OnSets
from ._set_layers import DeepSetsNetwork, SetScaler, equivariant_stack

__all__ = ["DeepSetsClassifier", "DeepSetsRegressor"]


class _DeepSets(OnSets, ClassNamePrefixFeaturesOutMixin, TransformerMixin):
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
            equivariant=equivariant_stack(
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
