"""Work spread by joblib: the same table from a Dask cluster and from loky as from one process."""

import joblib
import pandas as pd
import pytest
from compare_fakes import Crasher, Sleeper, Tree
from sklearn.datasets import load_iris

import skpapers

COLUMNS = ["method", "status", "score", "score_std", "second", "reason"]


def board(**settings):
    X, y = load_iris(return_X_y=True)
    include = ["SVC", "LogisticRegression", Tree(), Crasher(), Sleeper()]
    return skpapers.compare(X, y, include=include, folds=2, budget=2.0, **settings)[COLUMNS]


@pytest.fixture(scope="module")
def serial():
    return board(n_jobs=1)


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_dask_cluster_gives_the_table_of_the_serial_run(serial, processes, tmp_path):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        if processes:  # where the helper module of these tests lies
            client.run(_extend_path, __file__)
        with joblib.parallel_config("dask"):
            pd.testing.assert_frame_equal(board(output=tmp_path), serial)
    assert len(pd.read_csv(tmp_path / "results.csv")) == 5


@pytest.mark.slow
def test_loky_gives_the_table_of_the_serial_run(serial):
    with joblib.parallel_config("loky", n_jobs=2):
        pd.testing.assert_frame_equal(board(), serial)


def _extend_path(file):
    import os
    import sys

    sys.path.insert(0, os.path.dirname(file))
