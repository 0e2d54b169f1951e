"""What every estimator of the library must do, found by discovery."""

import inspect
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings, strategies as st
from numpydoc.validate import validate
from scipy import sparse
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectorMixin
from sklearn.model_selection import GridSearchCV, ParameterSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import generate_invalid_param_val, make_constraint
from sklearn.utils.estimator_checks import check_estimator

from skpapers.utils.discovery import all_estimators, public_symbols

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

ESTIMATORS = [cls for _, cls in all_estimators()]
SMALLER = [cls for cls in ESTIMATORS if hasattr(cls, "_small_params")]

# Classes on which scikit-learn has fewer than 35 checks, with the reason.
FEW_CHECKS = {}
# A check may be skipped for these reasons only: what it needs is not on this machine.
MISSING = ("cupy", "cuda", "mps", "xpu", "dpnp", "jax", "ndonnx", "sparse")

each = pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)


def small(cls, **params):
    """An instance that is quick to fit and has a seed."""
    params = {**getattr(cls, "_small_params", dict)(), **params}
    if "random_state" in inspect.signature(cls).parameters:
        params.setdefault("random_state", 0)
    return cls(**params)


def data(cls, n_samples=60, n_features=4, dtype=np.float64, seed=0):
    X, y = make_blobs(n_samples, n_features, centers=3, cluster_std=2.0, random_state=seed)
    if is_regressor(small(cls)) or not is_classifier(small(cls)):
        y = (X @ np.arange(1.0, n_features + 1)) / 10
    return X.astype(dtype), y


def fit(estimator, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y)


def outputs(estimator, X):
    """Everything the fitted estimator says about the rows of X."""
    names = ("predict", "predict_proba", "decision_function", "transform", "score_samples")
    found = {n: np.asarray(getattr(estimator, n)(X)) for n in names if hasattr(estimator, n)}
    if hasattr(estimator, "labels_"):
        found["labels_"] = estimator.labels_
    if not found:
        found["score"] = np.asarray(estimator.score(X))
    return found


def assert_same(first, second, **tolerance):
    assert first.keys() == second.keys()
    for name in first:
        if first[name].dtype.kind in "fc":
            np.testing.assert_allclose(first[name], second[name], err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def run_checks(estimator):
    results = check_estimator(estimator, on_fail="raise", on_skip=None)
    skipped = [r for r in results if r["status"] == "skipped"]
    unexcused = [r for r in skipped if not any(m in str(r["exception"]).lower() for m in MISSING)]
    assert not unexcused, unexcused
    assert all(result["status"] in ("passed", "skipped") for result in results)
    if type(estimator).__name__ not in FEW_CHECKS:
        assert len(results) - len(skipped) >= 35


@each
def test_check_estimator(cls):
    run_checks(cls(**getattr(cls, "_small_params", dict)()))


@pytest.mark.slow
@pytest.mark.parametrize("cls", SMALLER, ids=lambda cls: cls.__name__)
def test_check_estimator_on_the_defaults(cls):
    run_checks(cls())


@each
def test_grid_search_in_a_pipeline(cls):
    X, y = data(cls)
    settings = list(ParameterSampler(cls._search_space, 2, random_state=0))
    name = cls.__name__.lower()
    grid = [{f"{name}__{key}": [value] for key, value in s.items()} for s in settings]
    pipeline = make_pipeline(StandardScaler(), small(cls))
    search = GridSearchCV(pipeline, grid, cv=2, scoring=_scoring(cls), error_score="raise")
    fit(search, X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def _scoring(cls):
    """The estimator's own score, or, without one, the finiteness of what it says."""
    if hasattr(cls, "score"):
        return None
    return lambda estimator, X, y=None: float(all_finite(outputs(estimator, X)))


def all_finite(found):
    return all(np.isfinite(v).all() for v in found.values() if v.dtype.kind in "fc")


@each
def test_clone_pickle_and_joblib_give_identical_predictions(cls, tmp_path):
    X, y = data(cls)
    estimator = fit(small(cls), X, y)
    expected = outputs(estimator, X)
    assert_same(expected, outputs(pickle.loads(pickle.dumps(estimator)), X), rtol=0)
    joblib.dump(estimator, tmp_path / "estimator.joblib")
    assert_same(expected, outputs(joblib.load(tmp_path / "estimator.joblib"), X), rtol=0)
    assert_same(expected, outputs(fit(clone(estimator), X, y), X), rtol=0)


@each
def test_float32_is_kept(cls):
    X, y = data(cls, dtype=np.float32)
    found = outputs(fit(small(cls), X, y), X)
    for name in set(found) & {"transform", "predict_proba", "decision_function"}:
        assert found[name].dtype == np.float32, name
    if is_regressor(small(cls)):
        y32 = y.astype(np.float32)
        assert fit(small(cls), X, y32).predict(X).dtype == np.float32


@each
def test_same_seed_same_result_serially_and_in_two_threads(cls):
    X, y = data(cls)
    estimator = small(cls)
    expected = outputs(fit(clone(estimator), X, y), X)
    jobs = (joblib.delayed(fit)(clone(estimator), X, y) for _ in range(2))
    for fitted in joblib.Parallel(n_jobs=2, backend="threading")(jobs):
        assert_same(expected, outputs(fitted, X), rtol=1e-12)
    if "n_jobs" in estimator.get_params():
        fitted = fit(clone(estimator).set_params(n_jobs=2), X, y)
        assert_same(expected, outputs(fitted, X), rtol=1e-12)


@each
@pytest.mark.parametrize("seed", [0, None])
def test_global_generators_are_untouched(cls, seed):
    X, y = data(cls)
    params = {"random_state": seed} if "random_state" in inspect.signature(cls).parameters else {}
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()
    outputs(fit(small(cls, **params), X, y), X)
    for before, after in zip(numpy_state, np.random.get_state()):
        np.testing.assert_array_equal(before, after)
    assert torch.equal(torch_state, torch.get_rng_state())


@each
def test_inputs_are_not_modified(cls):
    X, y = data(cls)
    X_before, y_before = X.copy(), y.copy()
    outputs(fit(small(cls), X, y), X)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(y, y_before)


@each
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_frames(cls, frame):
    X, y = data(cls)
    table = frame({f"column{j}": X[:, j] for j in range(X.shape[1])})
    estimator = small(cls)
    if hasattr(estimator, "set_output"):
        estimator.set_output(transform="pandas" if frame is pd.DataFrame else "polars")
    fit(estimator, table, y)
    assert list(estimator.feature_names_in_) == list(table.columns)
    if hasattr(estimator, "transform"):
        assert isinstance(estimator.transform(table), frame)
        assert list(estimator.transform(table).columns) == list(estimator.get_feature_names_out())
    assert_same(outputs(fit(small(cls), X, y), X), outputs(estimator, table), rtol=1e-9)


@each
def test_bad_parameter_values_are_named(cls):
    X, y = data(cls, n_samples=20)
    parameters = set(small(cls).get_params(deep=False))
    assert parameters == set(cls._parameter_constraints), "every parameter has a constraint"
    for name, constraints in cls._parameter_constraints.items():
        if constraints == "no_validation":
            continue
        for bad in _bad_values(constraints):
            estimator = small(cls, **{name: bad})
            with pytest.raises(ValueError, match=name):
                fit(estimator, X, y)


def _bad_values(constraints):
    yield object()
    for constraint in map(make_constraint, constraints):
        try:
            yield generate_invalid_param_val(constraint)
        except NotImplementedError:
            continue


# Inputs that go wrong in practice. Each makes (X, y) from a generator.

NASTY = {
    "nan": lambda X, y: (_put(X, np.nan), y),
    "inf": lambda X, y: (_put(X, np.inf), y),
    "no rows": lambda X, y: (X[:0], y[:0]),
    "one row": lambda X, y: (X[:1], y[:1]),
    "two rows": lambda X, y: (X[:2], y[:2]),
    "one class": lambda X, y: (X, np.full_like(y, y[0])),
    "constant columns": lambda X, y: (np.column_stack([X, np.ones(len(X))]), y),
    "all constant": lambda X, y: (np.ones_like(X), y),
    "duplicate columns": lambda X, y: (np.column_stack([X, X]), y),
    "duplicate rows": lambda X, y: (np.repeat(X[:2], len(X) // 2, axis=0), y),
    "wide": lambda X, y: (np.tile(X, (1, 10))[:8], y[:8]),
    "tiny": lambda X, y: (X * 1e-12, y),
    "huge": lambda X, y: (X * 1e12, y),
    "mixed scales": lambda X, y: (X * np.logspace(-9, 9, X.shape[1]), y),
    "integers": lambda X, y: (np.rint(X).astype(np.int64), y),
    "read-only": lambda X, y: (_read_only(X), y),
    "sparse": lambda X, y: (sparse.csr_array(X), y),
    "object strings": lambda X, y: (X.astype(str).astype(object), y),
    "words": lambda X, y: (np.full(X.shape, "word", dtype=object), y),
    "one column": lambda X, y: (X[:, :1], y),
    "one dimension": lambda X, y: (X[:, 0], y),
    "reversed": lambda X, y: (X[::-1, ::-1], y),
}


# What is no reason for an error.
HARMLESS = {"integers", "read-only", "reversed", "duplicate columns", "constant columns"}


def _put(X, value):
    X = X.copy()
    X[1, -1] = value
    return X


def _read_only(X):
    X = X.copy()
    X.setflags(write=False)
    return X


@each
@pytest.mark.timeout(240)
def test_nasty_inputs_give_finite_output_or_a_clear_error(cls):
    for nasty in NASTY:
        outcome = _survives(cls, nasty, n_samples=24, n_features=4, dtype="float64", seed=0)
        assert outcome == "finite" or nasty not in HARMLESS, (nasty, outcome)


@each
@pytest.mark.timeout(240)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    nasty=st.sampled_from(sorted(NASTY)),
    n_samples=st.integers(2, 30),
    n_features=st.integers(1, 9),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 3),
)
@example(nasty="huge", n_samples=24, n_features=4, dtype="float32", seed=0)
@example(nasty="tiny", n_samples=24, n_features=4, dtype="float32", seed=0)
def test_nasty_inputs_of_any_shape(cls, nasty, n_samples, n_features, dtype, seed):
    assert _survives(cls, nasty, n_samples, n_features, dtype, seed)


def _survives(cls, nasty, n_samples, n_features, dtype, seed):
    X, y = NASTY[nasty](*data(cls, n_samples, n_features, dtype, seed))
    try:
        found = outputs(fit(small(cls), X, y), X)
    except (ValueError, TypeError) as error:
        assert len(str(error)) > 10, (nasty, error)
        return str(error)
    if issubclass(cls, SelectorMixin):
        del found["transform"]  # columns of X as they are, NaN where it is taken for unknown
    assert all_finite(found), (nasty, {k: v for k, v in found.items() if v.dtype.kind == "f"})
    return "finite"


# Documentation.

# Style that scikit-learn does not follow either, or that does not apply here.
IGNORED = {"GL01", "GL02", "ES01", "SA01", "SA04", "RT02", "RT03"}


def _public():
    return sorted(n for n, obj in public_symbols().items() if callable(obj))


@pytest.mark.parametrize("name", _public())
def test_docstrings_are_valid_numpydoc(name):
    assert _doc_errors(name) == []
    symbol = public_symbols()[name]
    if not inspect.isclass(symbol):
        return
    for method, function in vars(symbol).items():
        if not method.startswith("_") and inspect.isfunction(function) and function.__doc__:
            name = f"{symbol.__module__}.{symbol.__name__}.{method}"
            assert [error for error in _doc_errors(name) if error[0] != "EX01"] == []


def _doc_errors(name):
    return [error for error in validate(name)["errors"] if error[0] not in IGNORED]


@each
def test_docstring_lists_parameters_and_fitted_attributes(cls):
    sections = _sections(cls)
    assert set(sections["Parameters"]) == set(small(cls).get_params(deep=False))
    assert "Examples" in cls.__doc__
    X, y = data(cls)
    estimator = fit(small(cls), pd.DataFrame(X, columns=list("abcd")), y)
    fitted = {name for name in vars(estimator) if name.endswith("_") and name[0] != "_"}
    fitted |= {n for n in dir(cls) if n.endswith("_") and n[0] != "_" and _is_property(cls, n)}
    assert not fitted - set(sections["Attributes"]), "undocumented attributes"


def _is_property(cls, name):
    return isinstance(inspect.getattr_static(cls, name), property)


def _sections(cls):
    from numpydoc.docscrape import ClassDoc

    doc = ClassDoc(cls)
    return {
        section: [n.strip() for entry in doc[section] for n in entry.name.split(",")]
        for section in ("Parameters", "Attributes")
    }
