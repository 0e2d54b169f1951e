"""Additive model plus network, whose additive part is made identifiable after training."""

import numpy as np
from sklearn.utils.metaestimators import available_if

from ._families import TorchClassifier, TorchRegressor
from ._orthogonal_projection import LOG_LOSSES, cross_entropy_response
from ._semi_structured import SemiStructured, has_network, row_weights

__all__ = ["SemiStructuredClassifier", "SemiStructuredRegressor"]


class SemiStructuredRegressor(SemiStructured, TorchRegressor):
    """Additive model plus network: effects to report, predictions as good as the network's.

    The predictor is ``Z(x) @ beta + g(x)``, with a linear or spline part and a network g, trained
    together. Only their sum is determined by the training, as g can take over any share of the
    additive part. Once it has ended, g is projected on the columns of Z, and its projection moves
    to the additive part: the predictions stay as they are, the coefficients become those of the
    best additive approximation, and the network keeps what only it can express.

    Parameters
    ----------
    structured : {"linear", "spline"} or transformer, default="linear"
        The additive part: the features themselves, a B-spline of each of them, or the columns
        that your transformer makes of the (array of) structured features.
    deep_features : array-like of int or str, default=None
        The columns of X that the network sees; None for all. Without any there is no network, and
        the additive model is fitted to the end.
    structured_features : array-like of int or str, default=None
        The columns of X in the additive part; None for all.
    n_knots : int, default=8
        Knots of each spline, evenly over the range of the feature.
    degree : int, default=3
        Degree of the splines.
    smoothing : float, default=0.0
        Factor on the sum of squared second differences of the coefficients of each spline, next
        to the mean loss, in training and projection.
    family : {"gaussian", "poisson", "gamma"}, default="gaussian"
        Distribution of the target: its mean is the predictor, or the exponential of that for
        counts ("poisson") and positive values ("gamma").
    orthogonalization : {"post", "none", "online"}, default="post"
        "post" projects after training; "none" leaves both parts as they came out; "online" is the
        older way to project the output of the network in every batch, for comparisons.
    init_structured : {"least_squares", "zeros"}, default="least_squares"
        How the coefficients start: at the additive fit to the target (one step of Fisher scoring
        for other families than the Gaussian), or at zero.
    hidden_layer_sizes : sequence of int, default=(100, 50)
        Widths of the hidden layers of the network.
    activation : str or callable, default="relu"
        Name of a registered activation, or a module class.
    dropout : float, default=0.0
        Probability of zeroing a hidden unit during training, in [0, 1).
    optimizer : str or callable, default="adam"
        Name of a registered optimizer, a ``torch.optim.Optimizer`` class, or a factory.
    lr : float, default=1e-3
        Learning rate.
    max_epochs : int, default=100
        Passes over the data.
    batch_size : int, default=128
        Rows in a batch; None for all of them.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their score has not improved by
        `tol` for `n_iter_no_change` epochs, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`; the projection uses them too.
    n_iter_no_change : int, default=10
        Epochs without improvement after which training stops.
    tol : float, default=1e-4
        Smallest change of the training loss (or validation score) that counts as improvement; 0
        to run all epochs.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, dropout and the validation split.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    coef_ : ndarray of shape (n_columns,) or (n_outputs, n_columns)
        Coefficients of the columns of the additive part, after the projection.
    intercept_ : float or ndarray of shape (n_outputs,)
        Intercept.
    coef_raw_ : ndarray of shape (n_columns,) or (n_outputs, n_columns)
        Coefficients as the training left them.
    alpha_ : ndarray of shape (n_columns,) or (n_outputs, n_columns)
        Coefficients of the projection of the network.
    coef_std_ : ndarray of shape (n_columns,) or (n_outputs, n_columns)
        Approximate standard errors of ``coef_``, robust to unequal variances, of the regression
        of the target less the network's part on the columns; for the Gaussian family.
    deep_share_ : float or ndarray of shape (n_outputs,)
        Variance of the network's part as a share of that of the predictor, on the training data.
    structured_transformer_ : transformer
        Makes the columns of the additive part from the structured features.
    n_outputs_ : int
        Number of targets.
    y_mean_ : ndarray of shape (n_outputs_,)
        What is subtracted from each target: its mean, or 0.
    y_scale_ : ndarray of shape (n_outputs_,)
        What it is divided by: its standard deviation, or its mean.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained module, for standardised columns and target.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch, the penalty included.
    n_iter_ : int
        Number of epochs run.
    validation_scores_ : list of float
        Score on the held-out rows after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch whose weights were kept; with `early_stopping` only.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    Training costs that of the network; the projection one pass over the data with
    ``O(n_samples * n_columns**2)`` operations and ``O(n_columns**2)`` memory. Features are
    standardised inside, and coefficients given for the columns as they are.

    With the Gaussian family the coefficients are those of a regression of the fitted predictor on
    the columns. A network flexible enough to interpolate gives those of ordinary least squares.
    With other families too the projection is the unweighted one of the predictor.

    The standard errors take the network's part as given.

    References
    ----------
    .. [1] D. Rügamer, "A New PHO-rmula for Improved Performance of Semi-Structured Networks",
       ICML 2023, arXiv:2306.00522, section 4.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skpapers.neural_network import SemiStructuredRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = SemiStructuredRegressor(max_epochs=20, tol=0, random_state=0).fit(X, y)
    >>> model.coef_.shape
    (10,)
    >>> parts = [model.predictor(X, part=part) for part in ("structured", "deep")]
    >>> bool(abs(sum(parts) - model.predict(X)).max() < 1e-9)
    True
    """

    def __init__(
        self,
        structured="linear",
        deep_features=None,
        structured_features=None,
        *,
        n_knots=8,
        degree=3,
        smoothing=0.0,
        family="gaussian",
        orthogonalization="post",
        init_structured="least_squares",
        hidden_layer_sizes=(100, 50),
        activation="relu",
        dropout=0.0,
        optimizer="adam",
        lr=1e-3,
        max_epochs=100,
        batch_size=128,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.structured = structured
        self.deep_features = deep_features
        self.structured_features = structured_features
        self.n_knots = n_knots
        self.degree = degree
        self.smoothing = smoothing
        self.family = family
        self.orthogonalization = orthogonalization
        self.init_structured = init_structured
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.dropout = dropout
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _is_gaussian(self):
        return self.family == "gaussian"

    def _encode_target(self, y, weight, *, reset):
        target, weight = super()._encode_target(y, weight, reset=reset)
        if self._is_gaussian():
            return target, weight
        columns = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        least = columns.min()
        if least < 0 or (least == 0 and self.family == "gamma"):
            kind = "not negative" if self.family == "poisson" else "positive"
            raise ValueError(f"family={self.family!r} is for targets that are {kind}, got {least}")
        if reset:
            self.y_mean_ = np.zeros(columns.shape[1])
            self.y_scale_ = np.average(columns, axis=0, weights=weight)
            if not self.y_scale_.all():
                raise ValueError("a target is zero in every row: its logarithm has no mean")
        return columns / self.y_scale_, weight

    def _criterion(self):
        return super()._criterion() if self._is_gaussian() else LOG_LOSSES[self.family]

    def _decode(self, output):
        return output if self._is_gaussian() else output.exp()

    def _working_response(self, data):
        y = data.y.double().cpu().numpy()
        weight = row_weights(data)
        mean = np.average(y, axis=0, weights=weight)
        if self._is_gaussian():
            return mean, y - mean
        return np.log(mean), y / mean - 1

    def _units(self):
        if self._is_gaussian():
            return self.y_mean_, self.y_scale_
        return np.log(self.y_scale_), np.ones_like(self.y_scale_)

    def _contrast(self):
        return np.eye(self.n_outputs_)

    def _flat(self, values, axis):
        return np.take(values, 0, axis=axis) if self._y_ndim == 1 else values

    @available_if(has_network)
    def partial_fit(self, X, y, sample_weight=None):
        """Make one pass over the given rows, on which the network is then projected.

        Scales and splines are those of the first call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The estimator.
        """
        return super().partial_fit(X, y, sample_weight=sample_weight)


class SemiStructuredClassifier(SemiStructured, TorchClassifier):
    """Additive logits plus a network: effects to report, predictions as good as the network's.

    The logits are the sum of a linear or spline part and a network, trained together. Afterwards
    the projection of the network on the columns of the additive part moves to that part, as in
    :class:`SemiStructuredRegressor`; the predictions stay as they are.

    Parameters
    ----------
    structured : {"linear", "spline"} or transformer, default="linear"
        The additive part: the features themselves, a B-spline of each of them, or the columns
        that your transformer makes of the (array of) structured features.
    deep_features : array-like of int or str, default=None
        The columns of X that the network sees; None for all. Without any there is no network, and
        the additive model is fitted to the end.
    structured_features : array-like of int or str, default=None
        The columns of X in the additive part; None for all.
    n_knots : int, default=8
        Knots of each spline, evenly over the range of the feature.
    degree : int, default=3
        Degree of the splines.
    smoothing : float, default=0.0
        Factor on the sum of squared second differences of the coefficients of each spline, next
        to the mean loss, in training and projection.
    orthogonalization : {"post", "none", "online"}, default="post"
        "post" projects after training; "none" leaves both parts as they came out; "online" is the
        older way to project the output of the network in every batch, for comparisons.
    init_structured : {"least_squares", "zeros"}, default="least_squares"
        How the coefficients start: after one step of Fisher scoring from the shares of the
        classes, or at zero.
    hidden_layer_sizes : sequence of int, default=(100, 50)
        Widths of the hidden layers of the network.
    activation : str or callable, default="relu"
        Name of a registered activation, or a module class.
    dropout : float, default=0.0
        Probability of zeroing a hidden unit during training, in [0, 1).
    optimizer : str or callable, default="adam"
        Name of a registered optimizer, a ``torch.optim.Optimizer`` class, or a factory.
    lr : float, default=1e-3
        Learning rate.
    max_epochs : int, default=100
        Passes over the data.
    batch_size : int, default=128
        Rows in a batch; None for all of them.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their score has not improved by
        `tol` for `n_iter_no_change` epochs, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`; the projection uses them too.
    n_iter_no_change : int, default=10
        Epochs without improvement after which training stops.
    tol : float, default=1e-4
        Smallest change of the training loss (or validation score) that counts as improvement; 0
        to run all epochs.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, dropout and the validation split.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    coef_ : ndarray of shape (1, n_columns) or (n_classes, n_columns)
        Coefficients of the columns of the additive part, after the projection; with two classes
        those of the log-odds of the second.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercept.
    coef_raw_ : ndarray of shape (1, n_columns) or (n_classes, n_columns)
        Coefficients as the training left them.
    alpha_ : ndarray of shape (1, n_columns) or (n_classes, n_columns)
        Coefficients of the projection of the network.
    deep_share_ : ndarray of shape (1,) or (n_classes,)
        Variance of the network's part as a share of that of the logits, on the training data.
    structured_transformer_ : transformer
        Makes the columns of the additive part from the structured features.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained module, for standardised columns.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean training loss of each epoch, the penalty included.
    n_iter_ : int
        Number of epochs run.
    validation_scores_ : list of float
        Score on the held-out rows after each epoch; with `early_stopping` only.
    best_iter_ : int
        Epoch whose weights were kept; with `early_stopping` only.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    Training costs that of the network; the projection one pass over the data. Features are
    standardised inside, and coefficients given for the columns as they are. The projection is the
    unweighted one of the logits.

    References
    ----------
    .. [1] D. Rügamer, "A New PHO-rmula for Improved Performance of Semi-Structured Networks",
       ICML 2023, arXiv:2306.00522, section 4.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.neural_network import SemiStructuredClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SemiStructuredClassifier(max_epochs=20, tol=0, random_state=0).fit(X, y)
    >>> model.coef_.shape
    (3, 4)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        structured="linear",
        deep_features=None,
        structured_features=None,
        *,
        n_knots=8,
        degree=3,
        smoothing=0.0,
        orthogonalization="post",
        init_structured="least_squares",
        hidden_layer_sizes=(100, 50),
        activation="relu",
        dropout=0.0,
        optimizer="adam",
        lr=1e-3,
        max_epochs=100,
        batch_size=128,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.structured = structured
        self.deep_features = deep_features
        self.structured_features = structured_features
        self.n_knots = n_knots
        self.degree = degree
        self.smoothing = smoothing
        self.orthogonalization = orthogonalization
        self.init_structured = init_structured
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.dropout = dropout
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _is_gaussian(self):
        return False

    def _working_response(self, data):
        return cross_entropy_response(data.y.cpu(), len(self.classes_), row_weights(data))

    def _units(self):
        return 0.0, 1.0

    def _contrast(self):
        n_classes = len(self.classes_)
        return np.array([[-1.0], [1.0]]) if n_classes == 2 else np.eye(n_classes)

    def _flat(self, values, axis):
        # one log-odds a row, but a row of coefficients a class
        return values[:, 0] if axis == 1 and values.shape[1] == 1 else values

    @available_if(has_network)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Make one pass over the given rows, on which the network is then projected.

        Scales and splines are those of the first call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Target.
        classes : array-like of shape (n_classes,), default=None
            All the classes there will be; required in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The estimator.
        """
        return super().partial_fit(X, y, classes=classes, sample_weight=sample_weight)
