"""Random state without the global generator."""

import numbers

import numpy as np

__all__ = ["check_random_state", "draw_seed", "seed_estimator"]


def check_random_state(random_state=None):
    """Turn `random_state` into a generator of its own.

    Unlike :func:`sklearn.utils.check_random_state`, ``None`` gives fresh entropy instead of
    NumPy's global generator, so that fitting neither reads nor changes global state.

    Parameters
    ----------
    random_state : None, int, numpy.random.RandomState or numpy.random.Generator
        An instance is returned as it is (a ``Generator`` seeds a new ``RandomState``).

    Returns
    -------
    numpy.random.RandomState
        The generator to draw from.

    Raises
    ------
    ValueError
        If `random_state` is none of the above.

    Examples
    --------
    >>> from skpapers.utils import check_random_state
    >>> check_random_state(0).randint(100)
    44
    """
    if random_state is None:
        return np.random.RandomState(np.random.MT19937(np.random.SeedSequence()))
    if isinstance(random_state, np.random.RandomState):
        return random_state
    if isinstance(random_state, np.random.Generator):
        return np.random.RandomState(int(random_state.integers(2**32)))
    if isinstance(random_state, numbers.Integral) and 0 <= random_state < 2**32:
        return np.random.RandomState(int(random_state))
    raise ValueError(
        "random_state must be None, an integer in [0, 2**32), a RandomState or a Generator; "
        f"got {random_state!r}"
    )


def draw_seed(rng):
    """Draw an integer seed in [0, 2**31) from `rng`, for a nested estimator or a torch generator.

    Parameters
    ----------
    rng : numpy.random.RandomState
        Generator to draw from; it advances by one draw.

    Returns
    -------
    int
        The seed.

    Examples
    --------
    >>> from skpapers.utils import check_random_state, draw_seed
    >>> draw_seed(check_random_state(0)) == draw_seed(check_random_state(0))
    True
    """
    return int(rng.randint(np.iinfo(np.int32).max))


def seed_estimator(estimator, rng):
    """Seed the parts of an unfitted estimator whose `random_state` is None.

    None would stand for NumPy's global generator.

    Parameters
    ----------
    estimator : estimator
        Changed in place: pass a clone.
    rng : numpy.random.RandomState
        Generator to draw the seeds from, one a part.

    Returns
    -------
    estimator
        The same object.

    Examples
    --------
    >>> from sklearn.mixture import GaussianMixture
    >>> from skpapers.utils import check_random_state, seed_estimator
    >>> seed_estimator(GaussianMixture(), check_random_state(0)).random_state is None
    False
    """
    params = estimator.get_params()
    missing = [n for n in sorted(params) if n.endswith("random_state") and params[n] is None]
    return estimator.set_params(**{name: draw_seed(rng) for name in missing})
