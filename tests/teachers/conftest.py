from collections.abc import Callable

import pytest

from olivine.teachers import Teacher


@pytest.fixture(scope="class")
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Teacher]:
    """How a contract class makes its teacher."""
    return request.cls.builder(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="class")
def teacher(build: Callable[[], Teacher]) -> Teacher:
    """The teacher of a contract class, built once for its tests."""
    return build()
