"""Closed-set networks: what their labels mean, how sure they are, and the whole way from an image to its mask."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from builders.vfm import as_on_a_gpu, build_mask2former, build_oneformer, build_sam, build_segformer, picture
from olivine.data.labels import load_class_set
from olivine.errors import UserError
from olivine.labels.labellers.closed_set import ClosedSetConfig, best_label, class_maps
from olivine.labels.labellers.label_map import first_name, load_label_map
from olivine.labels.labellers.networks import Precision, load_image_processor
from olivine.weights.hub import find_model
from oracles.masks import enlarged

CPU = torch.device("cpu")

_CITYSCAPES = (
    "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person, "
    "rider, car, truck, bus, train, motorcycle, bicycle"
)
CITYSCAPES = _CITYSCAPES.split(", ")

# Labels as SegFormer's checkpoints for ADE20K spell them, in their order.
_ADE20K = (
    "wall, building, sky, floor, tree, ceiling, road, bed , windowpane, grass, cabinet, sidewalk, person, earth, "
    "door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, "
    "field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, "
    "signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, "
    "stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, coffee table, "
    "toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar, "
    "arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth, "
    "television receiver, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, "
    "poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, "
    "basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, "
    "animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, "
    "fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag"
)
ADE20K = _ADE20K.split(", ")


# Label maps.


@pytest.mark.parametrize(
    ("name", "labels"),
    [("cityscapes", CITYSCAPES), ("cityscapes_to_nuscenes", CITYSCAPES), ("ade20k_to_nuscenes", ADE20K)],
)
def test_shipped_maps_cover_the_labels_of_their_networks(name: str, labels: list[str]) -> None:
    label_map = load_label_map(name)
    table = label_map.table(labels)
    assert len(table) == len(labels) == len(set(labels))
    assert label_map.source


def test_what_shipped_maps_say() -> None:
    nuscenes = load_class_set("nuscenes").names
    table = load_label_map("cityscapes_to_nuscenes").table(CITYSCAPES)
    said = dict(zip(CITYSCAPES, table.tolist(), strict=True))
    assert nuscenes[said["road"]] == "driveable_surface"
    assert nuscenes[said["person"]] == "pedestrian"
    assert said["rider"] == said["sky"] == said["train"] == 255
    assert load_label_map("cityscapes").table(CITYSCAPES).tolist() == list(range(19))
    ade = dict(zip(ADE20K, load_label_map("ade20k_to_nuscenes").table(ADE20K).tolist(), strict=True))
    assert nuscenes[ade["minibike"]] == "motorcycle"
    assert nuscenes[ade["van"]] == "car"
    assert ade["sky"] == 255
    mapillary = load_label_map("mapillary_to_nuscenes")
    assert len(mapillary.targets) == 65
    assert mapillary.table(["Lane Marking - General"]).tolist() == [nuscenes.index("driveable_surface")]


def test_labels_go_by_their_first_name() -> None:
    assert [first_name(label) for label in ("Road, route", "bed ", "door;double door", "sky")] == [
        *("road", "bed", "door", "sky")
    ]


def test_labels_that_a_map_lacks_are_all_listed() -> None:
    with pytest.raises(UserError, match="lacks 2 of the network's 3 labels: 'moon', 'mars'"):
        load_label_map("cityscapes").table(["moon", "road", "mars"])
    assert load_label_map("cityscapes").table(["moon", "road"], allow_unmapped=True).tolist() == [255, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{road: street}", "unknown class 'street'; the classes are ground, car"),
        ("{'road, route': ground, road: car}", "'road' is mapped to two classes"),
        ("[road]", "map"),
    ],
)
def test_mistakes_in_a_map_are_answered_in_a_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"source: me\nclasses: [ground, car]\nmap: {text}\n", encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        load_label_map(str(path))
    assert str(path) in str(caught.value)


# From a network's answer to labels.


def test_logits_are_enlarged_and_compared_and_their_softmax_is_the_confidence() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (19, 3, 4)).astype(np.float32)  # more labels than are taken at once
    answer = SimpleNamespace(logits=torch.stack([torch.zeros(19, 3, 4), torch.from_numpy(logits)]))
    label, confidence = best_label(class_maps(answer, 1, torch.zeros(2, 3, 12, 16), None), (9, 14))
    large = np.stack([enlarged(channel, (9, 14)) for channel in logits])
    np.testing.assert_array_equal(label, large.argmax(0))
    softmax = np.exp(large) / np.exp(large).sum(0)
    np.testing.assert_allclose(confidence, softmax.max(0), rtol=1e-4)


def test_masks_are_weighed_by_their_classes_and_padding_is_left_out() -> None:
    rng = np.random.default_rng(1)
    classes = rng.normal(0, 2, (5, 18)).astype(np.float32)  # 17 labels and "no object"
    masks = rng.normal(0, 2, (5, 4, 8)).astype(np.float32)
    answer = SimpleNamespace(
        class_queries_logits=torch.stack([torch.zeros(5, 18), torch.from_numpy(classes)]),
        masks_queries_logits=torch.stack([torch.zeros(5, 4, 8), torch.from_numpy(masks)]),
    )
    pixel_mask = torch.ones(2, 16, 32, dtype=torch.int64)
    pixel_mask[1, 12:] = 0
    pixel_mask[1, :, 20:] = 0
    label, confidence = best_label(class_maps(answer, 1, torch.zeros(2, 3, 16, 32), pixel_mask), (10, 15))
    weights = np.exp(classes) / np.exp(classes).sum(1, keepdims=True)
    scores = np.zeros((17, 4, 8))
    for query in range(5):
        for index in range(17):
            scores[index] += weights[query, index] / (1 + np.exp(-masks[query]))
    inside = [enlarged(channel, (16, 32))[:12, :20] for channel in scores]
    large = np.stack([enlarged(channel, (10, 15)) for channel in inside])
    np.testing.assert_array_equal(label, large.argmax(0))
    np.testing.assert_allclose(confidence, large.max(0), rtol=1e-4)


# The networks.


BUILDERS = {"segformer": build_segformer, "mask2former": build_mask2former, "oneformer": build_oneformer}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build(tmp_path_factory.mktemp(name), CITYSCAPES) for name, build in BUILDERS.items()}


def check_labels(mask: np.ndarray, scores: np.ndarray) -> None:
    """Every pixel has the label of the highest score, where that is clear in single precision."""
    second, first = np.sort(scores, 0)[-2:]
    clear = first - second > 1e-5
    assert clear.mean() > 0.5
    assert len(np.unique(mask)) > 1
    np.testing.assert_array_equal(mask[clear], scores.argmax(0)[clear])


@pytest.mark.parametrize("name", BUILDERS)
def test_the_same_image_gives_the_same_bytes_alone_and_in_company(name: str, models: dict[str, Path]) -> None:
    config = ClosedSetConfig(model=str(models[name]), label_map="cityscapes")
    images = [picture(0), picture(1, (56, 40)), picture(2)]
    together = config.build(CPU).label(images)
    again = config.build(CPU)
    for image, mask in zip(images, together, strict=True):
        assert mask.dtype == np.uint8
        assert mask.shape == image.shape[:2]
        (alone,) = again.label([image])
        assert alone.tobytes() == mask.tobytes()
    assert len(np.unique(np.concatenate([mask.ravel() for mask in together]))) > 2


@pytest.mark.parametrize("name", BUILDERS)
def test_images_that_go_through_the_network_together_get_the_masks_they_get_alone(
    name: str, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ClosedSetConfig(model=str(models[name]), label_map="cityscapes", images_at_once=3)
    # The second and third kinds differ in size and are padded to one.
    sizes = [(48, 64), (48, 64), (56, 40), (40, 58), (48, 64), (40, 64), (48, 64)]
    images = [picture(seed, size) for seed, size in enumerate(sizes)]
    alone = config.build(CPU).label(images)
    as_on_a_gpu(monkeypatch)
    together = config.build(CPU)
    for order in (range(7), (6, 3, 0), (2,)):
        for index, mask in zip(order, together.label([images[index] for index in order]), strict=True):
            assert mask.shape == images[index].shape[:2]
            assert (mask == alone[index]).mean() > 0.999


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", BUILDERS)
def test_mixed_precision_moves_few_pixels(
    name: str, precision: Precision, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ClosedSetConfig(model=str(models[name]), label_map="cityscapes", images_at_once=2)
    images = [picture(seed) for seed in range(3)]
    exact = config.build(CPU).label(images)
    as_on_a_gpu(monkeypatch)
    mixed = config.model_copy(update={"precision": precision}).build(CPU).label(images)
    assert np.mean([one == other for one, other in zip(mixed, exact, strict=True)]) > 0.9


def test_segformer_says_what_the_library_says(models: dict[str, Path]) -> None:
    image = picture()
    (mask,) = ClosedSetConfig(model=str(models["segformer"]), label_map="cityscapes").build(CPU).label([image])
    pixels = load_image_processor(find_model(str(models["segformer"])))(Image.fromarray(image), return_tensors="pt")
    with torch.inference_mode():
        network = transformers.SegformerForSemanticSegmentation.from_pretrained(models["segformer"]).eval()
        logits = network(**pixels).logits[0].numpy()
    check_labels(mask, np.stack([enlarged(channel, (48, 64)) for channel in logits]))


@pytest.mark.parametrize("name", ["mask2former", "oneformer"])
def test_networks_of_masks_say_what_their_formula_says(name: str, models: dict[str, Path]) -> None:
    image = picture()
    labeller = ClosedSetConfig(model=str(models[name]), label_map="cityscapes").build(CPU)
    (mask,) = labeller.label([image])
    inputs = labeller.processor(Image.fromarray(image), return_tensors="pt")
    with torch.inference_mode():
        answer = labeller.network(**inputs, **labeller.task)
    weights = answer.class_queries_logits[0].softmax(-1)[:, :-1].numpy()
    masks = answer.masks_queries_logits[0].double().sigmoid().numpy()
    scores = [sum(weights[query, index] * masks[query] for query in range(len(masks))) for index in range(19)]
    check_labels(mask, np.stack([enlarged(channel, (48, 64)) for channel in scores]))


def test_labels_become_classes_and_unsure_pixels_unknown(models: dict[str, Path]) -> None:
    def label(**settings: object) -> np.ndarray:
        return ClosedSetConfig(model=str(models["segformer"]), **settings).build(CPU).label([picture()])[0]

    own = label(label_map="cityscapes")
    merged = label(label_map="cityscapes_to_nuscenes")
    np.testing.assert_array_equal(merged, load_label_map("cityscapes_to_nuscenes").table(CITYSCAPES)[own])
    unsure = label(label_map="cityscapes", min_confidence=0.5)
    assert 0 < (unsure == 255).sum() < unsure.size
    np.testing.assert_array_equal(unsure[unsure != 255], own[unsure != 255])
    assert (label(label_map="cityscapes", min_confidence=1.0) == 255).all()


def test_a_map_that_does_not_fit_the_network_is_refused(tmp_path: Path) -> None:
    model = build_segformer(tmp_path, ["road", "wormhole"])
    with pytest.raises(UserError, match="lacks 1 of the network's 2 labels: 'wormhole'"):
        ClosedSetConfig(model=str(model)).build(CPU)
    labeller = ClosedSetConfig(model=str(model), allow_unmapped=True).build(CPU)
    assert labeller.table.tolist() == [labeller.classes.index("driveable_surface"), 255]


def test_a_network_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a model of type sam cannot be used here; those that can: mask2former"):
        ClosedSetConfig(model=str(build_sam(tmp_path))).build(CPU)


def test_provenance_is_json_and_the_same_every_time(models: dict[str, Path]) -> None:
    config = ClosedSetConfig(model=str(models["mask2former"]))
    said = config.build(CPU).provenance()
    assert json.loads(json.dumps(said)) == said == config.build(CPU).provenance()
    assert said["label_map"]["sky"] is None  # type: ignore[index]
    assert said["label_map"]["road"] == "driveable_surface"  # type: ignore[index]
