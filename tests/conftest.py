"""What every test shares: a cache folder of its own, so that nothing is read from or left in the user's."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLIVINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
