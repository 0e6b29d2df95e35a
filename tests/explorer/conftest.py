from __future__ import annotations

import pytest

from builders.explored import build_explored


@pytest.fixture(scope="package")
def root(tmp_path_factory):
    return build_explored(tmp_path_factory.mktemp("explored"))
