"""What every dataset promises. Its test inherits `DatasetContract` and opens a small one."""

from abc import ABC, abstractmethod
from multiprocessing.reduction import ForkingPickler

import numpy as np
from numpy.typing import NDArray

from olivine.checking.check import check_dataset
from olivine.data.frame import Dataset


class DatasetContract(ABC):
    """What every dataset promises; a subclass gives `open`."""

    @abstractmethod
    def open(self) -> Dataset:
        """A small dataset without faults, opened anew at every call."""

    def test_check_finds_frames_and_no_problem(self) -> None:
        """Everything that training reads is there, finite, in range and of the right size."""
        report = check_dataset(self.open())
        assert report.frames > 0
        assert report.problems == []

    def test_frames_are_named_as_the_dataset_names_them(self) -> None:
        """Tokens are unique, and known with their scenes without reading the frame."""
        dataset = self.open()
        tokens = [dataset.token(index) for index in range(len(dataset))]
        assert len(set(tokens)) == len(tokens)
        for index, token in enumerate(tokens):
            assert (dataset[index].token, dataset[index].scene) == (token, dataset.scene(index))

    def test_arrays_have_the_types_and_lengths_that_all_else_relies_on(self) -> None:
        """Points, intensities and labels are of one length, in the stated types."""
        dataset = self.open()
        for index in range(len(dataset)):
            frame = dataset[index]
            points = len(frame.points_lidar_m)
            assert (frame.points_lidar_m.dtype, frame.points_lidar_m.shape) == (np.dtype(np.float32), (points, 3))
            if frame.intensity is not None:
                assert (frame.intensity.dtype, frame.intensity.shape) == (np.dtype(np.float32), (points,))
            if frame.labels is not None:
                assert (frame.labels.dtype, frame.labels.shape) == (np.dtype(np.uint8), (points,))

    def test_a_frame_is_the_same_whenever_and_wherever_it_is_read(self) -> None:
        """Loader processes get a pickled copy, which reads the same frames."""
        dataset = self.open()
        copy: Dataset = ForkingPickler.loads(ForkingPickler.dumps(dataset))
        for index in (len(dataset) - 1, 0):
            for other in (dataset, copy, self.open()):
                assert np.array_equal(dataset[index].points_lidar_m, other[index].points_lidar_m)
                assert _same(dataset[index].intensity, other[index].intensity)
                assert dataset.token(index) == other.token(index)


def _same(first: NDArray[np.float32] | None, second: NDArray[np.float32] | None) -> bool:
    """Whether two frames have equal intensities, or both none."""
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second)
