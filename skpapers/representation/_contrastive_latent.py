"""A latent variable learned by telling pairs of views of one row from pairs of two rows."""

import torch.nn.functional as F
from torch import nn

from skpapers.neural_network import SelfSupervisedTransformer

__all__ = ["ContrastiveLatentModel"]


class ContrastiveLatentModel(SelfSupervisedTransformer):
    """Learn an embedding by logistic regression over pairs of views.

    Two views share their latent variable (t = 1) or come from different rows (t = 0). The model
    ``p(t = 1 | x, x') = sigmoid(f(x) . f(x'))`` is fitted by maximum likelihood, with all pairs
    of different rows of a batch as negatives, which have as much weight in all as the positives.

    Parameters
    ----------
    n_components : int, default=16
        Width of the embedding; with an `encoder`, its own width counts.
    hidden_layer_sizes : sequence of int, default=(64,)
        Widths of the hidden layers of the encoder; empty for a linear map.
    augmentation : {"resample", "mask", "jitter", "image_affine"}, callable or tuple of two, \
            default="resample"
        How views are made of a row where `fit` is not given pairs: entries replaced by those of
        other rows, set to zero, or with noise; images moved; or a function ``(X, rng) -> X``.
    corruption : float, default=0.3
        Share of replaced or masked entries, or size of the noise.
    image_shape : tuple, default=None
        Shape of the image in a row, for "image_affine".
    encoder : torch.nn.Module, default=None
        Encoder that replaces the default one: its architecture, with parameters drawn anew.
    lr : float, default=1e-3
        Learning rate of AdamW.
    max_epochs : int, default=50
        Passes over the data.
    batch_size : int, default=256
        Rows in a batch, about. None for all rows.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, batches and views.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    encoder_ : torch.nn.Module
        From rows to embeddings.
    projector_ : torch.nn.Module
        The identity: the likelihood sees the embedding itself.
    net_ : skorch.NeuralNet
        The trained net, with the optimizer.
    module_ : torch.nn.Module
        The trained network, in eval mode.
    history_ : list of dict
        One entry an epoch.
    loss_curve_ : list of float
        Mean negative log-likelihood of each epoch, of a positive and a negative pair.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A step costs O(batch_size * n_weights + batch_size ** 2 * n_components).

    References
    ----------
    .. [1] J. Ge, S. Tang, J. Fan, C. Jin, "On the Provable Advantage of Unsupervised
       Pretraining", ICLR 2024, arXiv:2303.01566.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.representation import ContrastiveLatentModel
    >>> X, _ = load_iris(return_X_y=True)
    >>> ContrastiveLatentModel(n_components=3, max_epochs=2, random_state=0).fit_transform(X).shape
    (150, 3)
    """

    _search_space = {"n_components": [4, 16, 64], "corruption": [0.1, 0.3, 0.5]}

    @staticmethod
    def _small_params():
        return {"n_components": 4, "hidden_layer_sizes": (16,), "max_epochs": 3}

    def __init__(
        self,
        n_components=16,
        *,
        hidden_layer_sizes=(64,),
        augmentation="resample",
        corruption=0.3,
        image_shape=None,
        encoder=None,
        lr=1e-3,
        max_epochs=50,
        batch_size=256,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.augmentation = augmentation
        self.corruption = corruption
        self.image_shape = image_shape
        self.encoder = encoder
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _make_projector(self, n_in):
        return nn.Identity()

    def _pair_loss(self, module, Z1, Z2):
        return pair_likelihood(Z1, Z2)


def pair_likelihood(Z1, Z2):
    """Mean negative log-likelihood of matching rows, plus that of all others."""
    logits = Z1 @ Z2.T
    n = len(logits)
    positive = F.softplus(-logits.diagonal()).mean()
    negative = F.softplus(logits)
    return positive + (negative.sum() - negative.diagonal().sum()) / (n * (n - 1))
