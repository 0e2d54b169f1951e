"""A Stein test of goodness of fit for models of sequences whose length varies."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.utils import assert_all_finite, gen_batches
from sklearn.utils._chunking import get_chunk_n_rows
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.processes._ksd import bootstrap_weights
from skpapers.utils import check_random_state, draw_seed, seed_estimator

from ._result import simulated_result
from ._sequence_kernels import CallableKernel, CountKernel, ExponentialKernel, PairKernel
from ._sequence_models import MarkovChain, draw_sequences, edit_weights, is_unfitted
from ._sequences import (
    all_edits,
    bin_values,
    edited,
    encode,
    holds_symbols,
    is_sequence_list,
    padded_values,
    present,
    quantile_edges,
    symbol_values,
)

__all__ = ["SequentialKSDTest", "sequence_neighbors"]


class SequentialKSDTest(BaseEstimator):
    """Stein test of goodness of fit for sequences of symbols of varying length.

    Tells whether words, event logs, DNA or lists of tokens follow a model of sequences that is
    known up to a constant: all it needs are the probabilities of a sequence and of its neighbours,
    which differ from it by one symbol replaced, deleted or inserted. No sampling from the model
    and no partition function are needed.

    Parameters
    ----------
    model : object, default=None
        None is a Markov chain of order 1 that may stop after every symbol, fitted to the tested
        sample. Else an object with `score_samples`, which gets an array of integers padded with
        -1 to `max_length_` columns (strings as their positions in `alphabet_`), an object with
        `log_prob`, or a function, which get a list of tuples of symbols; they return log
        probabilities up to a constant, -inf included. An estimator is cloned and fitted to the
        tested sample; wrap a fitted one in :class:`sklearn.frozen.FrozenEstimator`.
    alphabet : array-like of shape (n_symbols,), default=None
        All symbols of the model, integers or strings. None: the model's own `alphabet` if it has
        one, else the symbols of the sample.
    n_edit_positions : int, default=None
        Number of places at the end of a sequence that are edited; None is all of them. 1 edits
        the end alone, which is cheap and has less power.
    n_substitutions : int, default=None
        Number of symbols that replace one: an even number for those nearest in the cyclic order
        of `alphabet_`, which is meant for large alphabets; None is all others.
    balancing : {"barker", "mpf", "metropolis"}, default="barker"
        Weight of a neighbour by its probability ratio t: t / (1 + t), sqrt(t) or min(1, t).
    kernel : {"csk", "exp_csk"} or callable, default="csk"
        "csk" is linear in the counts of contiguous subsequences, over the root of the length, and
        in the length. "exp_csk" is exponential in their squared distance, with an indicator of
        each length, and with `max_ngram` of `max_length_` tells all distributions apart. A
        callable gets two lists of tuples of symbols and returns the matrix of its values.
    max_ngram : int, default=2
        Length of the longest subsequences that are counted.
    length_weight : float, default=1.0
        Factor of the length, which is measured in standard deviations of the sample.
    max_length : int, default=None
        Largest length that the model allows. None: the model's own `max_length` if it has one,
        else the longest sequence of the sample.
    calibration : {"auto", "wild", "parametric"}, default="auto"
        "wild" flips signs in the V-statistic. "parametric" draws samples from the model, by
        `sample(n_samples, random_state=seed)`, and fits to each of them where the model was
        fitted: it is valid for any size, and the valid choice for fitted models. "auto" is
        "parametric" for models that are fitted here and have `sample`, else "wild".
    n_bootstrap : int, default=500
        Number of draws under the null hypothesis.
    alpha : float, default=0.05
        Level of the test.
    n_bins : int, default=8
        Number of quantile bins of each column where `X` holds no symbols.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the draws, and the model where it has no seed.

    Attributes
    ----------
    alphabet_ : ndarray of shape (n_symbols,)
        The symbols, sorted.
    max_length_ : int
        Largest length of a neighbour.
    bin_edges_ : ndarray of shape (n_bins - 1, n_features) or None
        Inner edges of the bins; None where `X` holds symbols.
    model_ : object
        The model, fitted.
    kernel_ : object
        The base kernel with its scales.
    statistic_ : float
        V-statistic of the squared discrepancy of the sample given to `fit`.
    pvalue_ : float
        Its p-value.
    reject_ : bool
        Whether the p-value is at most `alpha`.
    null_distribution_ : ndarray of shape (n_bootstrap,)
        Values of the statistic under the null hypothesis.
    stein_features_ : csr_array of shape (n_samples, n_columns) or SignedMeasures
        For "csk" the features whose inner products are the Stein kernel of the sample; for other
        kernels the signed measures on sequences that represent it.
    n_features_in_ : int
        Number of columns, where `X` was a table.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if `X` had string column names.

    Notes
    -----
    `X` is a list of strings or of lists of integers or strings, a
    :class:`skpapers.structure.Ragged` with one feature, or a table with one sequence a row. A
    table whose values are integers, -1 at least, holds symbols, and -1 or NaN pads at the end of
    rows. Any other table is turned column by column into the numbers 0 to `n_bins` - 1 of
    quantile bins, and NaN pads. NaN elsewhere is an error, which is why the tag for missing
    values is not set.

    With e edits of a sequence, about 2 n_symbols for every edited place, "csk" costs
    O(n e max_ngram^2) and n e evaluations of the model, other kernels O((n e)^2); "parametric"
    costs all of it `n_bootstrap` times. The wild bootstrap is conservative for models fitted to
    the tested sample: a warning says so. `score` is comparable between models, not
    kernels. The paper's comparisons with likelihood ratios and on text are not repeated here.

    References
    ----------
    Baum, Kanagawa and Gretton, "A Kernel Stein Test of Goodness of Fit for Sequential Models",
    ICML 2023, arXiv:2210.10741 (Sections 2 and 3).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.hypothesis_testing import SequentialKSDTest
    >>> def fair(words):
    ...     return [len(word) * np.log(0.25) for word in words]
    >>> rng = np.random.RandomState(0)
    >>> words = ["".join(rng.choice(list("ab"), rng.geometric(0.5))) for _ in range(100)]
    >>> SequentialKSDTest(fair, max_length=20, random_state=0).fit(words).reject_
    False
    >>> biased = [word.replace("ab", "aa") for word in words]
    >>> SequentialKSDTest(fair, max_length=20, random_state=0).fit(biased).reject_
    True
    """

    _parameter_constraints: dict = {
        "model": [callable, HasMethods("score_samples"), HasMethods("log_prob"), None],
        "alphabet": ["array-like", None],
        "n_edit_positions": [Interval(Integral, 1, None, closed="left"), None],
        "n_substitutions": [Interval(Integral, 2, None, closed="left"), None],
        "balancing": [StrOptions({"barker", "mpf", "metropolis"})],
        "kernel": [StrOptions({"csk", "exp_csk"}), callable],
        "max_ngram": [Interval(Integral, 1, None, closed="left")],
        "length_weight": [Interval(Real, 0, None, closed="left")],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "calibration": [StrOptions({"auto", "wild", "parametric"})],
        "n_bootstrap": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "n_bins": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state", np.random.Generator],
    }

    _search_space = {"n_bins": [4, 8], "max_ngram": [1, 2]}

    def __init__(
        self,
        model=None,
        *,
        alphabet=None,
        n_edit_positions=None,
        n_substitutions=None,
        balancing="barker",
        kernel="csk",
        max_ngram=2,
        length_weight=1.0,
        max_length=None,
        calibration="auto",
        n_bootstrap=500,
        alpha=0.05,
        n_bins=8,
        random_state=None,
    ):
        self.model = model
        self.alphabet = alphabet
        self.n_edit_positions = n_edit_positions
        self.n_substitutions = n_substitutions
        self.balancing = balancing
        self.kernel = kernel
        self.max_ngram = max_ngram
        self.length_weight = length_weight
        self.max_length = max_length
        self.calibration = calibration
        self.n_bootstrap = n_bootstrap
        self.alpha = alpha
        self.n_bins = n_bins
        self.random_state = random_state

    @staticmethod
    def _small_params():
        return {"n_bootstrap": 20}

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Prepare the model and test the sample.

        Parameters
        ----------
        X : list of sequences, Ragged or array-like of shape (n_samples, n_features)
            The sample, two sequences at least; see Notes.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the model gives a sequence of the sample probability zero, or a log probability
            that is no number.
        """
        if self.n_substitutions is not None and self.n_substitutions % 2:
            raise ValueError(f"n_substitutions must be even, got {self.n_substitutions}")
        sequences = self._learn_symbols(self._read(X, min_samples=2, reset=True))
        estimated = is_unfitted(self.model)
        seed, rng = self._streams()
        self.model_ = self._prepare_model(sequences, seed)
        self.kernel_ = self._prepare_kernel(sequences)
        parametric = self._is_parametric(estimated)
        if estimated and not parametric:
            warnings.warn(
                "The model was fitted to the sample that is tested, which makes the wild "
                "bootstrap conservative: use calibration='parametric', or wrap a model fitted "
                "elsewhere in FrozenEstimator.",
                UserWarning,
            )

        def prepare(sample):
            model = self._prepare_model(sample, seed) if estimated else self.model_
            return model, self._prepare_kernel(sample)

        self.stein_features_ = self._stein(sequences, self.model_, self.kernel_)
        result = self._test(self.stein_features_, len(sequences.lengths), parametric, prepare, rng)
        self.statistic_, self.pvalue_, self.reject_, self.null_distribution_, _ = result
        return self

    def _streams(self):
        """Seed of the model, and the generator of the draws."""
        rng = check_random_state(self.random_state)
        return draw_seed(rng), check_random_state(draw_seed(rng))

    def _read(self, X, *, min_samples=1, reset=False):
        """Sequences as a padded array of symbols or values."""
        if not is_sequence_list(X):
            return validate_data(
                self,
                X,
                dtype=[np.float64, np.float32],
                ensure_all_finite="allow-nan",
                ensure_min_samples=min_samples,
                reset=reset,
            )
        if reset:  # lists have no columns
            vars(self).pop("n_features_in_", None)
            vars(self).pop("feature_names_in_", None)
        values = padded_values(X)
        if len(values) < min_samples:
            raise ValueError(f"{min_samples} sequences are needed, got n_samples={len(values)}")
        if values.dtype.kind == "f":
            assert_all_finite(values, allow_nan=True, input_name="X")
        return values

    def _learn_symbols(self, values):
        """Learn the alphabet and the largest length; for values that are no symbols, bins."""
        given = self.alphabet
        if given is None:
            given = getattr(self.model, "alphabet", None)
        self.bin_edges_ = None
        if not holds_symbols(values):
            self.bin_edges_ = quantile_edges(values, self.n_bins)
            given = np.arange(self.n_bins)
        elif given is None:
            symbols = symbol_values(values)
            given = symbols[present(symbols)]
        self.alphabet_ = as_alphabet(given)
        if len(self.alphabet_) ** self.max_ngram >= 2**60:
            raise ValueError(f"max_ngram={self.max_ngram} is too large for this alphabet")
        sequences = self._encode(values)
        length = self.max_length or getattr(self.model, "max_length", None)
        self.max_length_ = int(length or sequences.lengths.max())
        self._check_lengths(sequences)
        return sequences

    def _encode(self, values):
        if self.bin_edges_ is not None:
            if values.dtype.kind == "U":
                raise ValueError("fit saw values, not strings")
            return encode(bin_values(values, self.bin_edges_), self.alphabet_)
        if (values.dtype.kind == "U") != (self.alphabet_.dtype.kind == "U"):
            raise ValueError(f"symbols must be of the type of the alphabet, {self.alphabet_}")
        return encode(symbol_values(values), self.alphabet_)

    def _check_lengths(self, sequences):
        if sequences.lengths.max() > self.max_length_:
            longest = sequences.lengths.max()
            raise ValueError(f"max_length is {self.max_length_}, the longest sequence {longest}")

    def _sequences(self, X, min_samples=1):
        check_is_fitted(self)
        sequences = self._encode(self._read(X, min_samples=min_samples))
        self._check_lengths(sequences)
        return sequences

    def _prepare_model(self, sequences, seed):
        if self.model is None:
            return MarkovChain.estimate(sequences, len(self.alphabet_), self.max_length_)
        if not is_unfitted(self.model):
            return self.model
        model = seed_estimator(clone(self.model), check_random_state(seed))
        return model.fit(sequences.padded(self.alphabet_, self.max_length_))

    def _prepare_kernel(self, sequences):
        scale = self.length_weight / (np.std(sequences.lengths) or 1.0)
        counts = CountKernel(len(self.alphabet_), self.max_ngram, scale)
        if self.kernel == "csk":
            return counts
        if self.kernel == "exp_csk":
            return PairKernel(ExponentialKernel.of(counts, sequences))
        return PairKernel(CallableKernel(self.kernel, self.alphabet_))

    def _is_parametric(self, estimated):
        can_draw = hasattr(self.model_, "sample")
        if self.calibration == "parametric" and not can_draw:
            raise ValueError("calibration='parametric' needs a model with sample")
        if self.calibration == "auto":
            return estimated and can_draw
        return self.calibration == "parametric"

    def _stein(self, sequences, model, kernel):
        """Represent the Stein kernel of the sequences."""
        n_samples = len(sequences.lengths)
        places = min(self.n_edit_positions or self.max_length_, self.max_length_)
        n_edits = places * 2 * (len(self.alphabet_) + 1)
        row_bytes = 8 * n_edits * (self.max_ngram**2 + self.max_length_)
        n_rows = get_chunk_n_rows(row_bytes=row_bytes, max_n_rows=n_samples)
        options = self.n_edit_positions, self.n_substitutions
        parts = []
        for block in gen_batches(n_samples, n_rows if kernel.by_rows else n_samples):
            part = sequences.rows(block)
            edits = all_edits(part, len(self.alphabet_), self.max_length_, *options)
            weights = edit_weights(
                model, part, edits, self.alphabet_, self.max_length_, self.balancing
            )
            parts.append(kernel.stein(part, edits, weights))
        return sparse.vstack(parts, format="csr") if kernel.by_rows else parts[0]

    def _test(self, stein, n_samples, parametric, prepare, rng):
        """Test the sample; `prepare` gives model and kernel for a sample under the null."""
        mean = np.full((1, n_samples), 1 / n_samples)
        if not parametric:
            weights = bootstrap_weights(n_samples, self.n_bootstrap, "wild", rng)
            statistic, *null = self.kernel_.draws(stein, np.vstack([mean, weights]))
            return simulated_result(statistic, null, self.alpha)
        statistic = self.kernel_.draws(stein, mean)[0]
        null = []
        for _ in range(self.n_bootstrap):
            sample = draw_sequences(self.model_, n_samples, self.alphabet_, draw_seed(rng))
            self._check_lengths(sample)
            model, kernel = prepare(sample)
            null.append(kernel.draws(self._stein(sample, model, kernel), mean)[0])
        return simulated_result(statistic, null, self.alpha)

    def test(self, X):
        """Test another sample against the model as it is fitted.

        Parameters
        ----------
        X : list of sequences, Ragged or array-like of shape (n_samples, n_features)
            The sample, two sequences at least.

        Returns
        -------
        HypothesisTestResult
            The result. Models with `sample` are calibrated by it unless `calibration` is "wild" or
            the model was given fitted.
        """
        sequences = self._sequences(X, min_samples=2)
        parametric = self.calibration == "parametric" or (
            self.calibration == "auto"
            and is_unfitted(self.model)
            and hasattr(self.model_, "sample")
        )
        stein = self._stein(sequences, self.model_, self.kernel_)
        _, rng = self._streams()
        return self._test(
            stein, len(sequences.lengths), parametric, lambda _: (self.model_, self.kernel_), rng
        )

    def score(self, X, y=None):
        """Compute minus the V-statistic of the squared discrepancy: larger is a better fit.

        Parameters
        ----------
        X : list of sequences, Ragged or array-like of shape (n_samples, n_features)
            The sample, two sequences at least.
        y : None
            Ignored.

        Returns
        -------
        float
            At most zero. The kernel is that of the sample given to `fit`.
        """
        sequences = self._sequences(X, min_samples=2)
        n_samples = len(sequences.lengths)
        stein = self._stein(sequences, self.model_, self.kernel_)
        return -float(self.kernel_.draws(stein, np.full((1, n_samples), 1 / n_samples))[0])

    def score_samples(self, X):
        """Average the Stein kernel of each sequence with the fitted sample, a local misfit.

        Parameters
        ----------
        X : list of sequences, Ragged or array-like of shape (n_samples, n_features)
            Sequences.

        Returns
        -------
        ndarray of shape (n_samples,)
            Near zero where the sample agrees with the model.
        """
        stein = self._stein(self._sequences(X), self.model_, self.kernel_)
        return self.kernel_.means(stein, self.stein_features_)


def sequence_neighbors(
    sequence, alphabet, *, max_length, n_edit_positions=None, n_substitutions=None
):
    """List the neighbours of a sequence, as often as there are edits that lead to them.

    Parameters
    ----------
    sequence : str or list
        The sequence, of symbols that are integers or strings.
    alphabet : array-like of shape (n_symbols,)
        All symbols.
    max_length : int
        Largest length of a neighbour.
    n_edit_positions : int, default=None
        Number of places at the end that are edited; None is all of them.
    n_substitutions : int, default=None
        Even number of symbols, the nearest in the cyclic order of the sorted alphabet, that
        replace a symbol; None is all others.

    Returns
    -------
    list of tuple
        Sequences with one symbol replaced, then deleted, then inserted. `x` is a neighbour of
        `y` as often as `y` of `x`, and edits connect all sequences.

    Examples
    --------
    >>> from skpapers.hypothesis_testing import sequence_neighbors
    >>> ["".join(word) for word in sequence_neighbors("ab", "ab", max_length=3)]
    ['bb', 'aa', 'b', 'a', 'aab', 'bab', 'aab', 'abb', 'aba', 'abb']
    """
    for name, value in (("max_length", max_length), ("n_edit_positions", n_edit_positions)):
        if value is not None and not (isinstance(value, Integral) and value >= 1):
            raise ValueError(f"{name} must be an integer, 1 at least, got {value!r}")
    even = n_substitutions is None or (
        isinstance(n_substitutions, Integral) and n_substitutions >= 2 and n_substitutions % 2 == 0
    )
    if not even:
        raise ValueError(f"n_substitutions must be an even integer or None, got {n_substitutions}")
    alphabet = as_alphabet(alphabet)
    sequences = encode(symbol_values(padded_values([sequence])), alphabet)
    edits = all_edits(sequences, len(alphabet), max_length, n_edit_positions, n_substitutions)
    return edited(sequences, edits).symbols(alphabet)


def as_alphabet(symbols):
    """Sorted distinct symbols, integers or strings."""
    symbols = np.unique(np.asarray(list(symbols)))
    if symbols.ndim != 1 or symbols.size == 0 or symbols.dtype.kind not in "iufU":
        raise ValueError("alphabet must hold integers or strings")
    if symbols.dtype.kind == "U":
        return symbols
    if not np.all((symbols >= 0) & (symbols == np.rint(symbols))):
        raise ValueError("the integers of the alphabet must be at least 0")
    return symbols.astype(np.int64)
