import pytest

from olivine.teachers import Teacher


@pytest.fixture(scope="class")
def teacher(request: pytest.FixtureRequest) -> Teacher:
    """The teacher of a contract class, built once for its tests."""
    return request.cls.config.build()
