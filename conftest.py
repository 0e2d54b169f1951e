"""Settings shared by the tests and the doctests."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # read by SciPy when it is first imported

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_thread_per_worker():
    """Two workers on two cores: threads of their own would only get in each other's way."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs CUDA")
