"""What every test shares: one thread, and a cache folder of its own, to leave that of the user alone.

The compiled kernels alone are kept, in pytest's own cache: half a minute that would else begin every run of the tests.

The tests' tensors are tiny: several threads only wait for each other, and on a busy machine for most of the time.
"""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton, which looks at it once


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory, pytestconfig):
    cache = tmp_path_factory.mktemp("cache")
    if hasattr(pytestconfig, "cache"):  # not with -p no:cacheprovider
        (cache / "native").symlink_to(pytestconfig.cache.mkdir("native"), target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLIVINE_CACHE", str(cache))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of the processes that tests start
        yield
    torch.set_num_threads(before)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """What draws from PyTorch's shared generator, fixtures among it, does not depend on what the process ran before."""
    torch.manual_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test printed goes from process to process as UTF-8, and some print names that are none."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
