"""One short drive in every container, shared by the tests of logs."""

import pytest

from builders.bags import FORMS, write_bag
from builders.drive import CAMERAS, LIDARS, Drive

DRIVE = Drive(seconds=1.0, cameras=CAMERAS[:2], lidars=LIDARS, beams=8, azimuths=60, image_size=(48, 32))


@pytest.fixture(scope="session")
def drive_bags(tmp_path_factory):
    """The paths of a second of driving, by container."""
    folder = tmp_path_factory.mktemp("drive")
    messages = list(DRIVE.messages())
    return {form: write_bag(folder / ("drive.bag" if form == "bag" else form), messages, form) for form in FORMS}
