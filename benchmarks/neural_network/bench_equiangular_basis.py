"""A fixed output layer against a trained one, and our generation against the plain hinge."""

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks._harness import Case
from skpapers.neural_network import (
    EquiangularBasisClassifier,
    NeuralClassifier,
    equiangular_basis_vectors,
)

TRAINING = {
    "hidden_layer_sizes": (512,),
    "lr": 3e-3,
    "batch_size": 128,
    "max_epochs": 30,
    "tol": 0,
    "random_state": 0,
}


def cases():
    X_train, y_train, X_test, y_test = clusters(200, 64)
    head = {"n_dims": 100, "temperature": 0.15}
    yield Case(
        name="EquiangularBasisClassifier",
        size="4000 x 64, 200 classes, 30 epochs",
        peer_name="NeuralClassifier, trained output layer",
        ours=lambda: EquiangularBasisClassifier(**head, **TRAINING).fit(X_train, y_train),
        peer=lambda: NeuralClassifier(**TRAINING).fit(X_train, y_train),
        accuracy=lambda model: model.score(X_test, y_test),
        metric="test accuracy",
        repeats=5,
    )
    for n_vectors, n_dims, bound in [(1000, 1000, 0.002), (200, 120, 0.08)]:
        yield Case(
            name="equiangular_basis_vectors",
            size=f"{n_vectors} x {n_dims}, cosines up to {bound}",
            peer_name="plain hinge, SGD 1e-3, at most 100 steps",
            ours=lambda args=(n_vectors, n_dims), bound=bound: equiangular_basis_vectors(
                *args, max_cosine=bound, random_state=0
            ),
            peer=lambda args=(n_vectors, n_dims), bound=bound: plain_hinge(*args, bound),
            accuracy=largest_cosine,
            metric="largest absolute cosine",
            repeats=1,
            note="the published procedure, written anew: the hinge by autograd, in float32, in "
            "slices of 130 rows; it allows 1e5 steps and is stopped here after 100",
        )


def clusters(n_classes, n_features):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(n_classes, n_features))
    parts = []
    for n_rows in (20, 10):
        y = np.repeat(np.arange(n_classes), n_rows)
        X = centers[y] + rng.normal(size=(len(y), n_features))
        parts += [X.astype(np.float32), y]
    return parts


def plain_hinge(n_vectors, n_dims, bound, n_steps=100):
    draw = torch.randn(n_vectors, n_dims, generator=torch.Generator().manual_seed(0))
    W = F.normalize(draw).requires_grad_()
    optimizer = torch.optim.SGD([W], lr=1e-3)
    eye = torch.eye(n_vectors)
    for _ in range(n_steps):
        with torch.no_grad():
            W.copy_(F.normalize(W))
        optimizer.zero_grad()
        largest = 0.0
        for rows in torch.arange(n_vectors).split(130):
            cosines = (W[rows] @ W.T).abs() - eye[rows]
            largest = max(largest, float(cosines.detach().max()))
            (cosines - bound).relu().sum().backward()
        if largest <= bound + 1e-4:
            break
        optimizer.step()
    return F.normalize(W.detach()).numpy()


def largest_cosine(W):
    gram = np.abs(W @ W.T)
    np.fill_diagonal(gram, 0)
    return float(gram.max())
