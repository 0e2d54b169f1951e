"""A matrix against an adversary: attributes out of the latents of an autoencoder."""

import numpy as np
import torch
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split
from torch import nn

from benchmarks._harness import Case
from skpapers.decomposition import LinearSubspaceProjection, MatrixSubspaceProjection

EPOCHS = 30


def cases():
    """Accuracy is how well a linear probe finds what should be gone: less is better."""
    X, y = load_digits(return_X_y=True)
    data = train_test_split((X / 16).astype(np.float32), y, test_size=0.3, random_state=0)
    train, train_y = data[0], data[2]

    def class_probe(embed):
        classifier = LogisticRegression(max_iter=1000).fit(embed(train), train_y)
        return classifier.score(embed(data[1]), data[3])

    yield Case(
        name="MatrixSubspaceProjection.fit",
        size=f"digits, {len(train)} rows, {EPOCHS} epochs",
        peer_name="adversarial autoencoder (Fader style, bare torch)",
        ours=lambda: MatrixSubspaceProjection(max_epochs=EPOCHS, random_state=0).fit(
            train, train_y
        ),
        peer=lambda: fader(train, train_y),
        accuracy=lambda model: class_probe(model.transform),
        peer_accuracy=class_probe,
        metric="accuracy of a probe on the residual (chance 0.1)",
        note="The adversarial autoencoder has the same networks, and a classifier of the class.",
    )
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(20_000, 100)) @ rng.normal(size=(100, 100))
    target = Z @ rng.normal(size=(100, 3)) + rng.normal(size=(20_000, 3))

    def linear_probe(rows):
        return LinearRegression().fit(rows, target).score(rows, target)

    yield Case(
        name="LinearSubspaceProjection.fit",
        size="n=20000, d=100, 3 real attributes",
        peer_name="sklearn PLSRegression, what its 3 components leave",
        ours=lambda: LinearSubspaceProjection().fit(Z, target),
        peer=lambda: PLSRegression(3).fit(Z, target),
        accuracy=lambda model: linear_probe(model.transform(Z)),
        peer_accuracy=lambda model: linear_probe(Z - model.inverse_transform(model.transform(Z))),
        metric="R2 of a probe on the residual",
    )


def fader(X, y, width=32):
    """Train an autoencoder and, in turn, a classifier that it must not let read its latents."""
    generator = torch.Generator().manual_seed(0)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    encoder = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, width))
    decoder = nn.Sequential(nn.Linear(width + 10, 256), nn.ReLU(), nn.Linear(256, 64))
    adversary = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 10))
    ours = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
    theirs = torch.optim.Adam(adversary.parameters())
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(X), generator=generator).split(64):
            Z, label = encoder(X[rows]), nn.functional.one_hot(y[rows], 10).float()
            theirs.zero_grad()
            nn.functional.cross_entropy(adversary(Z.detach()), y[rows]).backward()
            theirs.step()
            ours.zero_grad()
            image = decoder(torch.cat([Z, 2 * label - 1], dim=1))
            confusion = torch.log1p(-adversary(Z).softmax(1).gather(1, y[rows, None]) + 1e-6)
            ((image - X[rows]).square().sum(1).mean() - confusion.mean()).backward()
            ours.step()
    return lambda rows: encoder(torch.from_numpy(rows)).detach().numpy()
