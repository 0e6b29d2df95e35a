"""KITTI's object benchmark as frames, against the published preparation of its data."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from builders.detection import golden, real_golden, real_kitti, view_of
from builders.kitti_object import CLASSES, OTHER_SIZE, PLANE, SIZE, build_kitti_object
from olivine.data.datasets import KittiObjectConfig, recognise
from olivine.data.kitti_boxes import boxes_from_objects
from olivine.data.kitti_object import difficulty_of, read_plane
from olivine.data.pairs import find_pairs
from olivine.data.splits import SplitConfig, kitti_object_frames
from olivine.data.voxelize import CartesianVoxels, voxel_features, voxelize
from olivine.errors import UserError
from olivine.geometry import points_in_boxes
from olivine.testing import DatasetContract

REAL = ("000000", "000008", "000010")
NAMES = ("Car", "Pedestrian", "Cyclist")
GRID = CartesianVoxels(
    size_m=(0.05, 0.05, 0.1),
    bounds_m=(0, -40, -3, 70.4, 40, 1),
    features=("x", "y", "z", "intensity"),
    reduce="mean",
    max_points=5,
    max_voxels=40_000,
)


class TestKittiObject(DatasetContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.root = build_kitti_object(tmp_path / "data", planes=True, camseg=True, superpixels=True)

    def open(self):
        return KittiObjectConfig(root=self.root).open(SplitConfig(split="all"))


def opened(root, split="all", every=1, **settings):
    return KittiObjectConfig(root=root, **settings).open(SplitConfig(split=split, every=every))


@pytest.fixture
def simulated(tmp_path):
    return opened(build_kitti_object(tmp_path, ("000003",), points=None)), golden("kitti_prep_sim.npz")


def real(frame):
    return opened(real_kitti(), [frame]), real_golden(f"kitti_prep_{frame}.npz")


@pytest.fixture(params=["simulated", *(pytest.param(frame, marks=pytest.mark.real) for frame in REAL)])
def pair(request):
    """A dataset of one frame and what the published preparation makes of that frame."""
    return request.getfixturevalue("simulated") if request.param == "simulated" else real(request.param)


def test_frames_are_prepared_as_published(pair):
    dataset, reference = pair
    frame, objects = dataset[0], dataset.objects(0)
    height, width = reference["image_shape"].tolist()
    assert dataset.image_size(0) == frame.cameras[0].size == (width, height)
    assert objects.names == tuple(reference["names"].tolist())
    labelled = reference["index"] >= 0
    assert (objects.is_dont_care == ~labelled).all()
    # The published code grades DontCare areas too, by their height alone, and never asks for it.
    assert difficulty_of(objects).tolist() == np.where(labelled, reference["difficulty"], -1).tolist()
    assert frame.boxes.names == tuple(reference["gt_names"].tolist())
    assert frame.boxes.difficulty.tolist() == reference["difficulty"][labelled].tolist()
    np.testing.assert_allclose(frame.boxes.boxes, reference["gt_boxes_lidar"], rtol=0, atol=1e-9)
    classes = [NAMES.index(name) + 1 if name in NAMES else -1 for name in frame.boxes.names]
    assert classes == reference["gt_class"].tolist()
    low, high = GRID.bounds_m[:3], GRID.bounds_m[3:]
    centre = frame.boxes.boxes[:, :3]
    assert (((centre >= low) & (centre <= high)).all(axis=1) == reference["gt_in_range"]).all()


def test_the_points_of_the_image_and_those_in_boxes_are_the_published_ones(pair):
    dataset, reference = pair
    frame = dataset[0]
    whole = opened(dataset._folder.parent, [dataset.token(0)], field_of_view=False)[0]
    seen = view_of(reference)
    seen[reference["fov_ambiguous"]] = dataset.calibration(0).in_view(
        whole.points_lidar_m[reference["fov_ambiguous"]], dataset.image_size(0)
    )
    assert (frame.points_lidar_m == whole.points_lidar_m[seen]).all()
    assert (frame.intensity == whole.intensity[seen]).all()
    counts = points_in_boxes(frame.points_lidar_m, frame.boxes.boxes).sum(axis=1)
    assert counts.tolist() == reference["num_points_in_gt_exact"].tolist()
    assert counts.tolist() == reference["num_points_in_gt"][reference["index"] >= 0].tolist()


@pytest.mark.parametrize(("prefix", "limit"), [("voxel", 40_000), ("capped", 6000)])
def test_voxels_are_the_published_ones(pair, prefix, limit):
    dataset, reference = pair
    frame = dataset[0]
    grid = GRID.model_copy(update={"max_voxels": limit})
    voxels = voxelize(frame.points_lidar_m, grid)
    order = np.lexsort(voxels.coordinates.T)
    assert (voxels.coordinates[order, ::-1] == reference[f"{prefix}_coords_zyx"]).all()
    held = np.bincount(voxels.point_voxel[voxels.point_voxel >= 0], minlength=len(voxels.coordinates))
    assert len(held) == len(order)
    assert (np.minimum(held, 5)[order] == reference[f"{prefix}_num_points"]).all()
    if prefix == "voxel":
        means = voxel_features(frame, frame.points_lidar_m, voxels, grid)
        np.testing.assert_allclose(means[order], reference["voxel_mean"], rtol=0, atol=1e-6)
    else:
        assert len(voxels.coordinates) == reference["capped_num_voxels"]
        assert (voxels.coordinates[-1, ::-1] == reference["capped_last_in_order"]).all()


def test_a_point_on_the_far_border_is_outside_by_its_cell():
    outside = [[70.4, 0, 0], [1, 40, 0], [1, 0, 1], [1, 0, -3.0001], [-1e-9, 0, 0]]
    outside += [[1, 39.999996, 0], [1, 0, 0.9999999]]  # below the bound, in float32 the first cell beyond
    inside = [[70.39999, 0, 0], [0, -40, -3], [1, 39.99999, 0.99999]]
    voxels = voxelize(np.array(outside + inside, np.float32), GRID)
    assert (voxels.point_voxel >= 0).tolist() == [False] * len(outside) + [True] * len(inside)
    assert (voxels.coordinates < GRID.cells).all()


def test_frames_are_listed_by_their_splits(tmp_path):
    root = build_kitti_object(tmp_path, ("000000", "000001", "000003", "000007"), points=20)
    assert [opened(root).token(index) for index in range(4)] == ["000000", "000001", "000003", "000007"]
    assert opened(root).scene(1) == "training/000001"
    dataset = opened(root, ["000007", "000000"], every=2)
    assert [dataset.token(index) for index in range(len(dataset))] == ["000007"]
    with pytest.raises(UserError, match=r"3709 of the 3712 frames of split 'train' are not here \(000009, …\)"):
        opened(root, "train")
    with pytest.raises(UserError, match=r"1 of the 2 frames of split \[000000, 000008\] are not here \(000008\)"):
        opened(root, ["000000", "000008"])
    with pytest.raises(UserError, match="no split of kitti_object named 'trian'; known are train, val, trainval, test"):
        opened(root, "trian")
    with pytest.raises(UserError, match="counts scans here"):
        KittiObjectConfig(root=root).open(SplitConfig(split="all", unit="scene"))


def test_a_list_of_the_dataset_goes_before_the_official_one(tmp_path):
    root = build_kitti_object(tmp_path, ("000001", "000002", "000004"), points=20)
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "train.txt").write_text("000004\r\n000001\r\n\r\n")
    dataset = opened(root, "train")
    assert [dataset.token(index) for index in range(len(dataset))] == ["000001", "000004"]
    (root / "ImageSets" / "train.txt").write_text("000001\n../label_2/000001\n")
    with pytest.raises(UserError, match="1 of the 2 frames of split 'train' are not here"):
        opened(root, "train")
    (root / "ImageSets" / "train.txt").write_text("\n")
    with pytest.raises(UserError, match="no scans in split 'train'"):
        opened(root, "train")
    with pytest.raises(UserError, match="of the 3769 frames of split 'val'"):
        opened(root, "val")


def test_the_official_lists_have_their_published_sizes():
    sizes = {"train": 3712, "val": 3769, "trainval": 7481, "test": 7518}
    assert {split: len(set(kitti_object_frames(split))) for split in sizes} == sizes
    assert kitti_object_frames("train")[:3] == ("000000", "000003", "000007")
    with pytest.raises(UserError, match="known are train, val"):
        kitti_object_frames("all")


def test_the_test_set_lies_beside_and_has_no_labels(tmp_path):
    root = build_kitti_object(tmp_path, ("000000",), points=20, camseg=True)
    build_kitti_object(root, ("000000",), points=30, part="testing", labels=False, camseg=True)
    with pytest.raises(UserError, match="7517 of the 7518 frames of split 'test'"):
        opened(root, "test")
    (root / "training").rename(root / "elsewhere")
    dataset = opened(root)
    assert (dataset.token(0), dataset.scene(0)) == ("000000", "testing/000000")
    assert dataset.mask_names(0) == ("testing/image_2/000000.png",)
    assert dataset[0].boxes is None
    assert dataset[0].cameras[0].mask() is not None
    with pytest.raises(UserError, match="no folder label_2"):
        dataset.objects(0)
    assert recognise(root) == [KittiObjectConfig(root=root)]


def test_the_folders_may_lie_in_the_root_itself(tmp_path):
    root = build_kitti_object(tmp_path, ("000000",), points=50, part="")
    assert recognise(root) == [KittiObjectConfig(root=root)]
    assert opened(root).scene(0) == "training/000000"
    with pytest.raises(UserError, match="no KITTI object benchmark here, it must contain training/velodyne"):
        opened(tmp_path / "nowhere")


def test_images_differ_in_size_and_masks_must_not(tmp_path):
    root = build_kitti_object(tmp_path, camseg=True, superpixels=True)
    dataset = opened(root)
    cameras = [dataset[index].cameras[0] for index in range(3)]
    assert [camera.size for camera in cameras] == [SIZE, OTHER_SIZE, SIZE]
    assert dataset.manifest.classes == CLASSES
    for camera in cameras:
        shape = camera.size[::-1]
        assert (camera.image().shape[:2], camera.mask().shape, camera.segments().shape) == (shape, shape, shape)
    labels = find_pairs(dataset[0]).label
    assert set(labels.tolist()) == {0, 1, 2, 255}
    for folder in ("camseg", "superpixels"):
        path = root / folder / "image_2" / "000008.png"
        with Image.open(path) as file:
            wrong = file.resize(SIZE, Image.Resampling.NEAREST)
        wrong.save(path)
        with pytest.raises(UserError, match=rf"{folder}/image_2/000008\.png: .* 1242×375 but .* image is 1224×370"):
            _ = cameras[1].mask() if folder == "camseg" else cameras[1].segments()


def test_pairs_fall_where_all_three_matrices_say(simulated):
    dataset, _ = simulated
    frame = dataset[0]
    pairs = find_pairs(frame)
    points = np.column_stack((frame.points_lidar_m[pairs.point], np.ones(len(pairs))))
    pixels = points @ dataset.calibration(0).image_from_lidar.T
    np.testing.assert_allclose(pairs.uv, pixels[:, :2] / pixels[:, 2:], atol=1e-4)
    assert len(pairs) > 0.98 * len(frame.points_lidar_m)


def test_areas_without_labels_are_no_boxes_wherever_they_stand(tmp_path):
    root = build_kitti_object(tmp_path, ("000000",), points=50)
    path = root / "training" / "label_2" / "000000.txt"
    lines = path.read_text().strip().splitlines()
    path.write_text("\n".join([lines[-1], lines[0], lines[-2], *lines[1:4]]))
    dataset = opened(root)
    boxes = dataset[0].boxes
    assert boxes.names == ("Car",) * 4
    objects = dataset.objects(0)
    assert objects.names == ("DontCare", "Car", "DontCare", "Car", "Car", "Car")
    np.testing.assert_array_equal(
        boxes.boxes, boxes_from_objects(objects.take(~objects.is_dont_care), dataset.calibration(0))
    )
    np.testing.assert_array_equal(boxes.image_boxes, objects.image_box[[1, 3, 4, 5]])


def test_a_frame_without_objects_has_no_boxes_and_one_without_its_file_is_refused(tmp_path):
    root = build_kitti_object(tmp_path, points=50)
    assert opened(root)[2].boxes.boxes.shape == (0, 7)
    assert opened(root)[2].boxes.image_boxes.shape == (0, 4)
    (root / "training" / "label_2" / "000010.txt").unlink()
    with pytest.raises(UserError, match=r"label_2/000010\.txt: cannot read this label file"):
        opened(root)[2]


def test_a_side_of_no_length_is_refused(tmp_path):
    root = build_kitti_object(tmp_path, ("000000",), points=50)
    path = root / "training" / "label_2" / "000000.txt"
    path.write_text(path.read_text().replace("1.64 0.62 0.77", "1.64 0.00 0.77"))
    with pytest.raises(UserError, match=r"label_2/000000\.txt: object 6 \(Pedestrian; .*side of no length"):
        opened(root)[0]


def test_without_images_there_is_no_crop(tmp_path):
    root = build_kitti_object(tmp_path, ("000000",), points=500, images=False)
    with pytest.raises(UserError, match="no folder image_2, and cropping clouds"):
        opened(root)
    frame = opened(root, field_of_view=False)[0]
    assert (len(frame.points_lidar_m), frame.cameras) == (500, ())


def test_photographs_may_be_jpegs(tmp_path):
    root = build_kitti_object(tmp_path, ("000000",), points=50)
    path = root / "training" / "image_2" / "000000.png"
    with Image.open(path) as file:
        file.save(path.with_suffix(".jpg"))
    path.unlink()
    assert opened(root)[0].cameras[0].image().shape == (375, 1242, 3)


def test_road_planes_are_optional_and_point_up(tmp_path):
    assert opened(build_kitti_object(tmp_path / "without", points=50)).road_plane(0) is None
    root = build_kitti_object(tmp_path / "with", points=50, planes=True)
    dataset = opened(root)
    plane = dataset.road_plane(1)
    np.testing.assert_allclose(plane, np.array([0.01, -2, 0.02, 3.3]) / np.sqrt(4.0005))
    below = np.array([12.0, 3, 0, 1])  # of the LiDAR; brought down onto the plane, it lies on it for the camera too
    ground = dataset[1].ground_lidar
    below[2] = -(ground @ below) / ground[2]
    assert abs(plane @ dataset.calibration(1).rectified_from_lidar @ below) < 1e-12
    assert -2.5 < below[2] < -1
    path = root / "training" / "planes" / "000008.txt"
    path.write_text(PLANE.replace("0.01 -2 0.02 3.3", "-0.01 2 -0.02 -3.3"))
    np.testing.assert_allclose(dataset.road_plane(1), plane)
    path.unlink()
    with pytest.raises(UserError, match=r"planes/000008\.txt: cannot read this road plane"):
        dataset.road_plane(1)


@pytest.mark.parametrize("line", ["", "1 2 3", "1 2 3 4 5", "a b c d", "nan 1 0 0", "0 0 0 1.7"])
def test_a_plane_that_is_none_is_refused(tmp_path, line):
    path = tmp_path / "000003.txt"
    path.write_text(f"# Plane\nWidth 4\nHeight 1\n{line}\n")
    with pytest.raises(UserError, match=r"000003\.txt: line 4 must be the four numbers of a plane"):
        read_plane(path)
