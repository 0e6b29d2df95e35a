"""KITTI's text files of objects: what is read, what is refused, and that what is written is read again."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from olivine.data.kitti_labels import ObjectLabels, read_objects, write_objects
from olivine.errors import UserError

CAR = "Car 0.25 1 -1.57 10.5 20.25 110.5 80.75 1.5 1.6 3.9 -2.5 1.65 14.25 -1.6"
AREA = "DontCare -1 -1 -10 5.00 229.89 214.12 367.61 -1 -1 -1 -1000 -1000 -1000 -10"
WALKER = "Pedestrian 0.00 3 0.5 1 2 3 4 1.7 0.6 0.8 1 2 3 0.1"


def read(tmp_path: Path, text: str, *, scored: bool = False) -> ObjectLabels:
    (tmp_path / "000007.txt").write_bytes(text.encode())
    return read_objects(tmp_path / "000007.txt", scored=scored)


def complaint(tmp_path: Path, text: str, *, scored: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text, scored=scored)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{tmp_path / '000007.txt'}: ")
    return message


def assert_same(one: ObjectLabels, other: ObjectLabels, atol: float = 0.0) -> None:
    assert one.names == other.names
    assert (one.score is None) == (other.score is None)
    for field in fields(ObjectLabels)[1:]:
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=field.name)


def test_every_column_has_its_place(tmp_path: Path) -> None:
    objects = read(tmp_path, f"{CAR}\n")
    assert objects.names == ("Car",)
    assert objects.truncation.tolist() == [0.25]
    assert objects.occlusion.tolist() == [1]
    assert objects.occlusion.dtype == np.int64
    assert objects.alpha_rad.tolist() == [-1.57]
    assert objects.image_box.tolist() == [[10.5, 20.25, 110.5, 80.75]]
    assert objects.size_hwl_m.tolist() == [[1.5, 1.6, 3.9]]
    assert objects.location_m.tolist() == [[-2.5, 1.65, 14.25]]
    assert objects.rotation_y_rad.tolist() == [-1.6]
    assert objects.score is None


@pytest.mark.parametrize("text", ["", "\n", "\r\n \r\n", "\n\n\n"])
@pytest.mark.parametrize("scored", [False, True])
def test_a_file_without_lines_is_a_frame_without_objects(tmp_path: Path, text: str, scored: bool) -> None:
    objects = read(tmp_path, text, scored=scored)
    assert len(objects) == 0
    assert_same(objects, ObjectLabels.empty(scored=scored))
    assert objects.image_box.shape == (0, 4)


@pytest.mark.parametrize(
    "text",
    [
        f"{CAR}\r\n{AREA}\r\n{WALKER}\r\n",
        f"{CAR}  \n\n{AREA}\t\n  \n{WALKER}",
        f"\ufeff{CAR}\n  {AREA.replace(' ', '  ')}\n{WALKER}\n\n",
    ],
    ids=["CRLF", "spaces and empty lines", "byte order mark"],
)
def test_line_ends_and_spaces_do_not_matter(tmp_path: Path, text: str) -> None:
    assert_same(read(tmp_path, text), read(tmp_path, f"{CAR}\n{AREA}\n{WALKER}\n"))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_areas_without_labels_may_stand_anywhere(tmp_path: Path, place: int) -> None:
    lines = [CAR, WALKER]
    lines.insert(place, AREA)
    objects = read(tmp_path, "\n".join(lines))
    assert np.flatnonzero(objects.is_dont_care).tolist() == [place]
    assert_same(objects.take(~objects.is_dont_care), read(tmp_path, f"{CAR}\n{WALKER}"))


def test_detections_have_scores_and_labels_leave_them_out(tmp_path: Path) -> None:
    text = f"{CAR} 0.75\n{WALKER} -1e-3\n"
    found = read(tmp_path, text, scored=True)
    assert found.score is not None
    assert found.score.tolist() == [0.75, -1e-3]
    assert_same(read(tmp_path, text), replace(found, score=None))


def test_a_detection_may_lie_in_the_image_alone(tmp_path: Path) -> None:
    flat = "Car -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10"
    assert read(tmp_path, f"{flat} 0.5", scored=True).size_hwl_m.tolist() == [[-1, -1, -1]]
    assert "negative size" in complaint(tmp_path, flat)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (CAR.rsplit(" ", 1)[0], "has 14 columns instead of 15"),
        ("Car", "has 1 columns instead of 15"),
        (f"{CAR} 0.5 7", "has 17 columns, more than 16"),
        (CAR.replace("14.25", "near"), "has 'near' in column 14"),
        (CAR.replace("14.25", "nan"), "has nan in column 14"),
        (CAR.replace("-1.57", "inf"), "has inf in column 4"),
        (CAR.replace("1.6 3.9", "-1.6 3.9"), "has a negative size (1.5 -1.6 3.9)"),
        (CAR.replace("110.5", "10"), "has an image box that ends before it begins (10.5 20.25 10 80.75)"),
        (CAR.replace("0.25 1 ", "0.25 1.5 "), "has the occlusion 1.5"),
    ],
)
def test_a_bad_line_is_named_with_what_to_do(tmp_path: Path, line: str, said: str) -> None:
    message = complaint(tmp_path, f"{WALKER}\r\n\r\n{AREA}\r\n{line}\r\n")
    assert f"line 4 {said}" in message
    assert ";" in message


def test_a_detection_without_a_score_is_named(tmp_path: Path) -> None:
    assert "line 2 has no score" in complaint(tmp_path, f"{CAR} 0.5\n{WALKER}\n", scored=True)
    assert "line 1 has 3 columns instead of 16" in complaint(tmp_path, "Car 0 0", scored=True)
    assert "line 1 has nan in column 16" in complaint(tmp_path, f"{CAR} nan", scored=True)


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\xff\xfe")
    for path, said in (
        (tmp_path / "image.txt", "no text file"),
        (tmp_path / "none.txt", "cannot read"),
        (tmp_path, "folder"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            read_objects(path)
        assert str(path) in str(caught.value)


def test_shapes_must_agree() -> None:
    with pytest.raises(UserError, match=r"ObjectLabels.image_box: has the shape \[2, 4\]; give \[0, 4\]"):
        replace(ObjectLabels.empty(), image_box=np.zeros((2, 4)))
    with pytest.raises(UserError, match=r"ObjectLabels.score"):
        replace(ObjectLabels.empty(), score=np.zeros(2))


NUMBERS = st.floats(-2000, 2000, allow_nan=False)


@st.composite
def objects_of_a_frame(draw: st.DrawFn) -> ObjectLabels:
    count = draw(st.integers(0, 5))
    values = draw(arrays.arrays(np.float64, (count, 11), elements=NUMBERS))
    near, far = np.minimum(values[:, :2], values[:, 2:4]), np.maximum(values[:, :2], values[:, 2:4])
    return ObjectLabels(
        names=tuple(draw(st.lists(st.sampled_from(["Car", "DontCare", "Van"]), min_size=count, max_size=count))),
        truncation=values[:, 4] / 2000,
        occlusion=draw(arrays.arrays(np.int64, count, elements=st.integers(-1, 3))),
        alpha_rad=values[:, 5],
        image_box=np.concatenate([near, far], axis=1),
        size_hwl_m=np.abs(values[:, 6:9]),
        location_m=values[:, 7:10],
        rotation_y_rad=values[:, 10],
        score=draw(
            st.none() | arrays.arrays(np.float64, count, elements=st.floats(allow_nan=False, allow_infinity=False))
        ),
    )


@given(objects_of_a_frame(), st.integers(0, 6))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, objects: ObjectLabels, decimals: int
) -> None:
    path = tmp_path_factory.mktemp("objects") / "results" / "000000.txt"
    write_objects(path, objects, decimals=decimals)
    again = read_objects(path, scored=objects.score is not None)
    assert_same(again, objects, atol=0.5000001 * 10.0**-decimals)
    if objects.score is not None:
        np.testing.assert_array_equal(again.score, objects.score)


def test_numbers_are_written_without_what_says_nothing(tmp_path: Path) -> None:
    objects = read(tmp_path, f"{AREA}\n{CAR.replace('Car 0.25', 'Car -0.00001')}")
    write_objects(tmp_path / "out.txt", objects)
    assert (tmp_path / "out.txt").read_text().splitlines() == [
        "DontCare -1 -1 -10 5 229.89 214.12 367.61 -1 -1 -1 -1000 -1000 -1000 -10",
        "Car 0 1 -1.57 10.5 20.25 110.5 80.75 1.5 1.6 3.9 -2.5 1.65 14.25 -1.6",
    ]


def test_what_is_not_finite_is_not_written(tmp_path: Path) -> None:
    objects = read(tmp_path, f"{CAR} 0.5", scored=True)
    for broken in (replace(objects, score=np.array([np.nan])), replace(objects, alpha_rad=np.array([np.inf]))):
        with pytest.raises(UserError, match="not finite"):
            write_objects(tmp_path / "out.txt", broken)
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.real
@pytest.mark.skipif("OLIVINE_REAL_DATA" not in os.environ, reason="needs the real samples, named by OLIVINE_REAL_DATA")
def test_real_labels_are_read_whole_and_written_as_they_were(tmp_path: Path) -> None:
    folder = Path(os.environ["OLIVINE_REAL_DATA"]) / "kitti-object/training/label_2"
    paths = sorted(folder.glob("*.txt"))
    names = [name for path in paths for name in read_objects(path).names]
    assert (len(paths), names.count("Car"), names.count("DontCare")) == (19, 50, 68)
    for path in paths:
        write_objects(tmp_path / path.name, read_objects(path), decimals=2)
        ours, theirs = (tmp_path / path.name).read_text().split(), path.read_text().split()
        assert all(one == other or float(one) == float(other) for one, other in zip(ours, theirs, strict=True))
