"""Low-rank mixtures against full covariances, at sizes a factor of eight apart."""

from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from benchmarks._harness import Case
from skpapers.cluster import LowRankMixtureDiffusion, make_low_rank_gaussian_mixture


def cases():
    for n in (2_500, 20_000):
        mixture = make_low_rank_gaussian_mixture(n, 100, (5,) * 10, noise=0.1, random_state=0)
        X, y = mixture.data, mixture.target
        ours = LowRankMixtureDiffusion(10, 5, random_state=0)
        peer = GaussianMixture(10, random_state=0)
        yield Case(
            name="LowRankMixtureDiffusion",
            size=f"{n} rows, 100 columns, 10 subspaces of 5 dimensions",
            peer_name="GaussianMixture, full covariances",
            ours=lambda ours=ours, X=X: ours.fit_predict(X),
            peer=lambda peer=peer, X=X: peer.fit_predict(X),
            accuracy=lambda labels, y=y: adjusted_rand_score(y, labels),
            metric="adjusted Rand index",
            repeats=1,
        )
