"""Classifiers whose topology evolves (NEAT), a whole population at a time."""

import numpy as np
import torch
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.multiclass import check_classification_targets

from ._neat_estimator import NEATEstimator, log_loss, minus_hits

__all__ = ["NEATClassifier"]


class NEATClassifier(ClassifierMixin, NEATEstimator):
    """Classify by a small network whose topology and weights evolve.

    Networks start without hidden nodes and grow by mutation; species protect what is new. The
    outputs are logits, one for two classes, else one a class.

    Parameters
    ----------
    pop_size : int, default=200
        Number of genomes.
    n_generations : int, default=50
        Number of generations, the first, random one among them.
    max_nodes : int, default=50
        Largest number of output and hidden nodes of a genome.
    max_conns : int or "auto", default="auto"
        Largest number of connections; "auto" is 100 more than a first network has.
    init_hidden_layers : tuple of int, default=()
        Widths of the hidden layers of the first networks, which are fully connected; none
        connects the inputs to the outputs.
    species_size : int, default=10
        Largest number of species.
    max_stagnation : int, default=15
        Generations without a better member after which a species dies out.
    species_elitism : int, default=2
        Number of species, the fittest, that do not.
    genome_elitism : int, default=2
        Fittest genomes of a species that are copied unchanged.
    survival_threshold : float, default=0.2
        Share of a species, the fittest, that parents are drawn from; at least one.
    compatibility_threshold : float, default=2.0
        Distance from the center below which a genome belongs to a species.
    conn_add, conn_delete : float, default=0.2
        Probability of a child to get, or to lose, a connection.
    node_add, node_delete : float, default=0.1
        Probability of a child to get a node, which splits a connection, or to lose one.
    weight_mutate_rate : float, default=0.2
        Probability of a weight or bias to be moved.
    weight_mutate_power : float, default=0.15
        Standard deviation of that.
    weight_replace_rate : float, default=0.015
        Probability of a weight or bias to be drawn anew.
    weight_bound : float, default=5.0
        Largest absolute weight and bias.
    function_replace_rate : float, default=0.1
        Probability of the activation, and of the aggregation, of a node to be drawn anew.
    activations : sequence of str, default=("tanh",)
        What activations of hidden nodes are drawn from: "identity", "sigmoid", "tanh", "sin",
        "relu", "leaky_relu", "inverse", "log", "exp", "abs", "scaled_sigmoid", "scaled_tanh". A
        new node passes its sum on until it is given one of them.
    aggregations : sequence of str, default=("sum",)
        What aggregations are drawn from: "sum", "product", "max", "min", "maxabs", "median",
        "mean". All but the sum are slower.
    fitness : str, scorer or callable, default="auto"
        What is maximised. "auto" is "neg_log_loss"; "accuracy" is as fast. Other names of
        scikit-learn's scorers, and scorers, work too, one network at a time: some 3 ms each. A
        callable ``fitness(outputs, y)`` gets tensors of shape (n_networks, n_samples, n_outputs)
        and codes of classes of shape (n_samples,) and returns one number a network.
    parsimony : float, default=0.0
        Fitness that a connection costs.
    batch_size : int, default=None
        Rows that a generation is evaluated on, drawn for each; None for all.
    refine_epochs : int, default=0
        Steps of Adam on the weights and biases of the best network, with the log-loss.
    early_stopping : bool, default=True
        Stop when the best fitness has not risen by `tol` within `n_iter_no_change` generations.
    n_iter_no_change : int, default=20
        Generations to wait for that.
    tol : float, default=1e-4
        Least rise.
    standardize : bool, default=True
        Scale the features to mean 0 and variance 1.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of all draws, which are made on the CPU.
    verbose : int, default=0
        1 shows a progress bar.
    warm_start : bool, default=False
        Whether another fit goes on with the population.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    best_nodes_ : ndarray of shape (n_nodes, 4)
        Output and hidden nodes of the best network: key, bias, and the positions of aggregation
        and activation in the lists above (the first, "identity", where none was drawn).
    best_conns_ : ndarray of shape (n_connections, 3)
        Its connections: source key, target key, weight. Features have keys from 0, outputs the
        next ones.
    best_fitness_ : float
        Its fitness.
    n_active_connections_ : int
        Number of its connections that lead to an output.
    formula_ : sympy.Expr or list of sympy.Expr
        What :meth:`decision_function` computes, in the given features.
    population_ : Genomes
        The last population, as padded tensors.
    history_ : list of dict
        One entry a generation: the ``best`` fitness so far, the ``mean`` fitness, and the
        ``species_sizes``.
    n_iter_ : int
        Number of generations.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    All genomes are evaluated, mutated, crossed and compared as tensors. A generation costs
    O(pop_size * n_samples * n_nodes * (n_features + n_nodes * depth)) for the outputs, and
    O(pop_size * n_conns * log(n_conns) * species_size) for the rest; both follow the largest
    network there is, not `max_nodes`. Inputs carry no gene: nodes are compared by the distance
    over output and hidden nodes alone.

    For ordinary tables networks trained by gradients are stronger; these are small, readable,
    and need no gradient. The speed over other implementations that the paper reports is that of
    a GPU and of large populations.

    References
    ----------
    .. [1] L. Wang, M. Zhao, E. Liu, K. Sun, R. Cheng, "Tensorized NeuroEvolution of Augmenting
       Topologies for GPU Acceleration", GECCO 2024, arXiv:2404.01817, sections 3 and 4.
    .. [2] K. O. Stanley, R. Miikkulainen, "Evolving Neural Networks through Augmenting
       Topologies", Evolutionary Computation 10(2), 2002.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.neural_network import NEATClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = NEATClassifier(n_generations=20, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    """

    _losses = {"neg_log_loss": log_loss, "accuracy": minus_hits}
    _default_fitness = "neg_log_loss"
    _target_checks = {}

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Evolve for one generation more.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data; the first call decides how features are scaled.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels there are; None for those of the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; None for equal ones.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        fresh = not hasattr(self, "_evolution")
        return self._evolve(X, y, sample_weight, 1, fresh, classes)

    def _encode(self, y, weight, fresh, classes):
        check_classification_targets(y)
        labels = np.unique(y if classes is None else classes)
        if fresh:
            if len(labels) < 2:
                raise ValueError("NEATClassifier needs two classes or more, y has one class")
            self.classes_ = labels
            self._n_outputs = 1 if len(labels) == 2 else len(labels)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y has classes that the first fit did not have: {unknown}")
        return np.searchsorted(self.classes_, y)

    def _descale(self, outputs):
        return outputs

    def _descale_formulas(self, formulas):
        return formulas

    def decision_function(self, X):
        """Compute logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Logits, those of the second class where there are two.
        """
        logits = self._outputs(X).numpy()
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict_proba(self, X):
        """Predict probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities.
        """
        logits = self._outputs(X)
        if logits.shape[1] == 1:
            return torch.sigmoid(torch.cat([-logits, logits], dim=1)).numpy()
        return logits.softmax(dim=1).numpy()

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels.
        """
        logits = self._outputs(X).numpy()
        codes = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(axis=1)
        return self.classes_[codes.astype(int)]
