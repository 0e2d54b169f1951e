"""TLDR against a bare torch loop, and against UMAP where it is installed."""

import importlib.util

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from torch import nn

from benchmarks._harness import Case
from skpapers.manifold import TLDR

SETTINGS = {"n_components": 16, "n_neighbors": 20, "max_epochs": 60}
BATCH, WIDTH = 270, 128


def cases():
    X, y = load_digits(return_X_y=True)
    split = train_test_split(X / 16, y, train_size=0.6, random_state=0)
    base, queries, labels, answers = split
    base, queries = ((Z - base.mean(0)).astype(np.float32) for Z in (base, queries))

    def precision(transform):
        stored, asked = (F.normalize(torch.tensor(transform(Z))).numpy() for Z in (base, queries))
        relevant = labels[np.argsort(-asked @ stored.T, axis=1)] == answers[:, None]
        hits = np.cumsum(relevant, axis=1) / np.arange(1, len(labels) + 1)
        return np.mean((hits * relevant).sum(1) / relevant.sum(1))

    common = {
        "name": "TLDR",
        "size": f"digits, n={len(base)}, 16 dimensions, 60 epochs",
        "ours": lambda: TLDR(**SETTINGS, random_state=0).fit(base).transform,
        "accuracy": precision,
        "metric": "mean average precision, cosine",
    }
    yield Case(peer_name="bare torch loop", peer=lambda: _bare(base), **common)
    if importlib.util.find_spec("umap"):
        yield Case(peer_name="umap.UMAP", peer=lambda: _umap(base), repeats=1, **common)


def _umap(X):
    from umap import UMAP

    model = UMAP(n_components=16, n_neighbors=20, metric="cosine", random_state=0).fit(X)
    return lambda Z: model.embedding_ if Z is X else model.transform(Z)


def _bare(table):
    """What one would write by hand, with torch's own generator, which is put back."""
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        return _train_by_hand(table)


def _train_by_hand(table):
    index = NearestNeighbors(n_neighbors=21, metric="cosine").fit(table)
    neighbors = torch.tensor(index.kneighbors(table)[1][:, 1:])
    X = torch.tensor(table)
    encoder = nn.Linear(X.shape[1], 16)
    hidden = nn.Sequential(nn.Linear(16, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU())
    projector = nn.Sequential(hidden, nn.Linear(WIDTH, WIDTH, bias=False))
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=1e-6, fused=True)
    for _ in range(60):
        for rows in torch.randperm(len(X)).split(BATCH):
            columns = torch.randint(neighbors.shape[1], (len(rows), 1))
            partners = neighbors[rows].gather(1, columns)[:, 0]
            optimizer.zero_grad()
            _loss(projector(encoder(X[rows])), projector(encoder(X[partners]))).backward()
            optimizer.step()
    with torch.no_grad():
        encoder.bias -= encoder(X).mean(0)
    return lambda Z: encoder(torch.tensor(Z)).detach().numpy()


def _loss(Z1, Z2):
    C = F.batch_norm(Z1, None, None, training=True).T @ F.batch_norm(Z2, None, None, training=True)
    C = C / len(Z1)
    off_diagonal = C[~torch.eye(len(C), dtype=torch.bool)]
    return ((C.diagonal() - 1).square().sum() + 5e-3 * off_diagonal.square().sum()) / 32
