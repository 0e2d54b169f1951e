"""Episodes on the bridge against a bare loop, and the metric against its peers."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.neighbors import NeighborhoodComponentsAnalysis

from benchmarks._harness import Case
from skpapers.representation import ProtoTripletClassifier, icnn_score


def cases():
    X, y = _classes()
    base = y < 32
    for losses, peer_name in (
        (("cross_entropy",), "prototypical network, bare loop"),
        (("cross_entropy", "proto_triplet", "icnn"), "prototypical network, bare loop"),
    ):
        model = ProtoTripletClassifier(losses=losses, n_episodes=300, random_state=0)
        yield Case(
            name=f"ProtoTripletClassifier, {len(losses)} losses",
            size="300 episodes of 75 rows, 40 columns",
            peer_name=peer_name,
            ours=lambda model=model: model.fit(X[base], y[base]).transform(X[~base]),
            peer=lambda: _bare_loop(X[base], y[base])(X[~base]),
            accuracy=lambda Z: icnn_score(Z, y[~base]),
            metric="ICNN score of new classes",
        )
    peer = NeighborhoodComponentsAnalysis(6, max_iter=10, random_state=0)
    yield Case(
        name="ProtoTripletClassifier, 3 losses",
        size="300 episodes of 75 rows, 40 columns",
        peer_name="NeighborhoodComponentsAnalysis, 10 steps",
        ours=lambda: model.fit(X[base], y[base]).transform(X[~base]),
        peer=lambda: peer.fit(X[base], y[base]).transform(X[~base]),
        accuracy=lambda Z: icnn_score(Z, y[~base]),
        metric="ICNN score of new classes",
    )


def _classes():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(50), 30)
    signal = rng.normal(size=(50, 6))[y] + 0.5 * rng.normal(size=(1500, 6))
    X = np.column_stack([signal, 2 * rng.normal(size=(1500, 34))])
    return X @ np.linalg.qr(rng.normal(size=(40, 40)))[0] / 3, y


def _bare_loop(X, y, n_episodes=300):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torch.nn.Linear(40, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64)
    net = torch.nn.Sequential(*layers).double()
    optimizer, rng = torch.optim.Adam(net.parameters(), lr=1e-3), np.random.default_rng(0)
    rows = torch.tensor(X).reshape(32, 30, 40)
    labels = torch.arange(5).repeat_interleave(10)
    for _ in range(n_episodes):
        chosen = rng.choice(32, 5, replace=False)
        index = np.stack([rng.permutation(30)[:15] for _ in range(5)])
        Z = net(rows[chosen[:, None], index].reshape(75, 40)).reshape(5, 15, 64)
        loss = F.cross_entropy(
            -(torch.cdist(Z[:, 5:].reshape(50, 64), Z[:, :5].mean(1)) ** 2), labels
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return lambda X: net(torch.tensor(X)).detach().numpy()
