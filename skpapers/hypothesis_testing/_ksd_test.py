"""The bootstrap test that a kernelised Stein discrepancy is zero."""

import numpy as np
from sklearn.utils import gen_batches
from sklearn.utils._array_api import get_namespace, move_to

from skpapers.processes._ksd import bootstrap_weights, ksd_statistics, stein_sums

from ._result import simulated_result

_MAX_WEIGHTS = 2**24


def ksd_test(samples, *, kernel, bootstrap, n_bootstrap, alpha, rng, frequencies=None):
    """Test whether the summed discrepancy of `samples` is zero.

    The multinomial bootstrap goes with the U-statistic; random signs with the V-statistic, where
    the diagonal is the same in all draws. Both draw U(w) = w'(U - diag U)w; with the linear term
    2 w'(row sums) / n it varies around the statistic instead of zero.
    """
    n_samples = samples[0].points.shape[0]
    # pairs of rows are summed once for all draws; random features are cheap to sum again
    size = n_bootstrap if frequencies is None else max(_MAX_WEIGHTS // n_samples, 1)
    null, around = [], []
    for batch in gen_batches(n_bootstrap, size):
        weights = bootstrap_weights(n_samples, batch.stop - batch.start, bootstrap, rng)
        sums, diagonal, forms = stein_sums(
            samples, kernel, weights=weights, frequencies=frequencies
        )
        xp, _ = get_namespace(sums)
        sums, diagonal, forms = (move_to(a, xp=np, device="cpu") for a in (sums, diagonal, forms))
        null.append(forms)
        around.append(forms + 2 / n_samples * weights @ (sums - diagonal))
    statistic, v_statistic = ksd_statistics(sums, diagonal)
    null, around = np.concatenate(null), np.concatenate(around)
    if bootstrap == "wild":
        statistic = v_statistic
        null = null + diagonal.sum() / n_samples**2
    around = around + statistic
    return simulated_result(statistic, null, alpha, around)
