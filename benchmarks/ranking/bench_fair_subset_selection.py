"""Greedy selection against abcvoting and a plain loop over rankings."""

import numpy as np

from benchmarks._harness import Case
from skpapers.ranking import FairSubsetSelector, multiwinner_score

try:
    from abcvoting import abcrules
    from abcvoting.preferences import Profile
except ImportError:
    abcrules = None


def cases():
    if abcrules is not None:
        X, k = np.random.default_rng(0).normal(size=(300, 100)), 20
        yield Case(
            name="fair_subset_selection, greedy PAV",
            size="300 rankings of 100 items, 20 selected",
            peer_name="abcvoting.abcrules.compute_seqpav",
            ours=lambda: FairSubsetSelector(k, rule="pav").fit(X).selected_,
            peer=lambda: _abcvoting(X, k),
            accuracy=lambda selected: multiwinner_score(X, selected, "pav"),
            metric="PAV score",
            note="abcvoting gets the approvals; ours ranks the items as well.",
        )
    for n, m, k in ((500, 500, 50), (1000, 1000, 50)):
        X = np.random.default_rng(1).normal(size=(n, m))
        yield Case(
            name="fair_subset_selection, greedy Chamberlin-Courant",
            size=f"{n} rankings of {m} items, {k} selected",
            peer_name="NumPy, all gains in every step",
            ours=lambda X=X, k=k: FairSubsetSelector(k, rule="cc").fit(X).selected_,
            peer=lambda X=X, k=k: _every_gain(X, k),
            accuracy=lambda selected, X=X: multiwinner_score(X, selected, "cc"),
            metric="CC score",
        )


def _abcvoting(X, k):
    profile = Profile(X.shape[1])
    profile.add_voters(np.argsort(-X, axis=1)[:, :k].tolist())
    (committee,) = abcrules.compute_seqpav(profile, k, resolute=True)
    return np.array(sorted(committee))


def _every_gain(X, k):
    """Borda points, then k passes over the whole table."""
    points = np.argsort(np.argsort(X, axis=1), axis=1).astype(float)
    best, selected = np.zeros(len(X)), []
    for _ in range(k):
        gain = np.maximum(points - best[:, None], 0).sum(axis=0)
        gain[selected] = -1
        selected.append(int(np.argmax(gain)))
        best = np.maximum(best, points[:, selected[-1]])
    return np.array(selected)
