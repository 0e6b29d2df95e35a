"""Grounded SAM: which boxes count and as what, which mask wins, and the whole way from an image to its mask."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from safetensors.torch import load_file

from builders.vfm import as_on_a_gpu, build_grounding_dino, build_sam, build_sam2, picture, tokenizer
from olivine.errors import MissingExtraError, UserError
from olivine.labels.labellers.grounded_sam import GroundedSamConfig, GroundedSamLabeller, paint, rank
from olivine.labels.labellers.grounding import Detector, build_texts, choose
from olivine.labels.labellers.networks import Precision, Runner
from olivine.labels.labellers.prompts import load_prompts
from olivine.labels.labellers.segment_anything import SegmentAnything
from olivine.weights.hub import find_model
from oracles.masks import named_classes, painted

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_grounding_dino(tmp_path_factory.mktemp("grounding_dino"))


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sam2(tmp_path_factory.mktemp("sam2"))


@pytest.fixture
def config(detector: Path, sam: Path) -> GroundedSamConfig:
    """Thresholds at which random networks find several classes."""
    return GroundedSamConfig(
        detector=str(detector), segmenter=str(sam), box_threshold=0.005, text_threshold=0.005, ambiguous="best"
    )


def changed(config: GroundedSamConfig, **settings: Any) -> GroundedSamLabeller:
    return config.model_copy(update=settings).build(CPU)


# Which mask wins.


@given(st.data())
def test_pixels_take_the_class_of_the_best_mask_over_them(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 5))
    masks = data.draw(arrays(bool, (count, 3, 4)))
    scores = data.draw(arrays(np.float32, count, elements=st.sampled_from([0.25, 0.5, 0.75])))
    classes = data.draw(arrays(np.int64, count, elements=st.integers(0, 3)))
    order = rank(scores, classes)
    labels = paint((3, 4), masks[order], classes[order])
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, painted(masks, scores, classes, (3, 4)))


def test_overlaps_go_to_the_higher_score_and_ties_to_the_lower_class() -> None:
    wide = np.array([[True, True, False]])
    left = np.array([[True, False, False]])
    masks, classes = np.stack([wide, left]), np.array([7, 3])
    for scores, expected in (((0.9, 0.4), [7, 7, 255]), ((0.4, 0.9), [3, 7, 255]), ((0.5, 0.5), [3, 7, 255])):
        order = rank(np.array(scores, np.float32), classes)
        assert paint((1, 3), masks[order], classes[order]).tolist() == [expected]


def test_nothing_found_is_unknown_everywhere() -> None:
    assert (paint((2, 3), (), ()) == 255).all()


# Which boxes count, and as what.


@given(
    arrays(np.float32, (4, 3), elements=st.floats(0, 1, width=16)),
    st.sampled_from([[0, 1, 2], [0, 1, 1], [2, 2, 2]]),
    st.sampled_from([0.25, 0.5]),
    st.sampled_from([0.25, 0.5]),
)
def test_a_box_counts_where_it_scores_and_names_one_class(
    scores: np.ndarray, classes: list[int], box: float, text: float
) -> None:
    rows, best, chosen = choose(scores, np.array(classes), box, text, "drop")
    expected = []
    for row, line in enumerate(scores.tolist()):
        named = named_classes(line, classes, text)
        if max(line) > box and len(named) == 1:
            expected.append((row, max(line), named.pop()))
    assert list(zip(rows.tolist(), best.tolist(), chosen.tolist(), strict=True)) == expected


def test_a_box_that_names_two_classes_counts_only_if_asked_for() -> None:
    scores = np.array([[0.9, 0.6, 0.0], [0.9, 0.0, 0.8], [0.2, 0.1, 0.0]], np.float32)
    classes = np.array([0, 1, 0])
    rows, _, chosen = choose(scores, classes, 0.3, 0.25, "drop")
    assert (rows.tolist(), chosen.tolist()) == ([1], [0])
    rows, best, chosen = choose(scores, classes, 0.3, 0.25, "best")
    assert (rows.tolist(), chosen.tolist()) == ([0, 1], [0, 0])
    np.testing.assert_allclose(best, [0.9, 0.9])


# Which token belongs to which phrase.


def test_the_tokens_are_those_of_the_text_and_every_phrase_knows_its_own() -> None:
    words = tokenizer()
    phrases = ("bushes", "traffic cone", "road")
    (text,) = build_texts(phrases, words, 256)
    assert list(text.tokens) == words("bushes. traffic cone. road.")["input_ids"]
    spans = [words.convert_ids_to_tokens(list(text.tokens[start:stop])) for start, stop in text.spans]
    assert spans == [["bush", "##es"], ["traffic", "cone"], ["road"]]


def test_phrases_that_do_not_fit_into_one_text_are_spread_over_several() -> None:
    words = tokenizer()
    phrases = load_prompts("nuscenes").phrases
    texts = build_texts(phrases, words, 12)
    assert len(texts) > 3
    assert all(len(text.tokens) <= 12 for text in texts)
    assert [index for text in texts for index in text.phrases] == list(range(len(phrases)))
    for text in texts:
        said = ". ".join(phrases[index] for index in text.phrases) + "."
        assert list(text.tokens) == words(said)["input_ids"]
        spans = [words.decode(list(text.tokens[start:stop])) for start, stop in text.spans]
        assert spans == [phrases[index] for index in text.phrases]


def test_all_shipped_phrases_fit_into_one_text_of_the_published_length() -> None:
    assert len(build_texts(load_prompts("nuscenes").phrases, tokenizer(), 256)) == 1


def test_phrases_that_the_detector_cannot_read_are_refused() -> None:
    with pytest.raises(UserError, match="'zebra crossing' has a word that the detector's vocabulary lacks"):
        build_texts(("car", "zebra crossing"), tokenizer(), 256)
    with pytest.raises(UserError, match="'traffic cone' takes 2 tokens; a text of the detector holds 1"):
        build_texts(("car", "traffic cone"), tokenizer(), 4)


# The networks.


def test_boxes_are_those_of_the_librarys_own_post_processing(detector: Path) -> None:
    files, image = find_model(str(detector)), picture()
    (ours,) = Detector(files, load_prompts("nuscenes"), Runner(CPU)).find([image], 0.005, 0.0, "best")
    processor = transformers.AutoProcessor.from_pretrained(detector, backend="pil")
    text = ". ".join(load_prompts("nuscenes").phrases) + "."
    inputs = processor(images=Image.fromarray(image), text=text, return_tensors="pt")
    network = transformers.GroundingDinoForObjectDetection.from_pretrained(detector).eval()
    with torch.inference_mode():
        answer = network(**inputs)
    (theirs,) = processor.post_process_grounded_object_detection(
        answer, threshold=0.005, target_sizes=[image.shape[:2]]
    )
    boxes, scores = theirs["boxes"].tolist(), theirs["scores"].tolist()
    theirs_by_box = {tuple(box): score for box, score in zip(boxes, scores, strict=True)}
    assert len(ours.boxes) > 1
    for box, score in zip(ours.boxes, ours.scores, strict=True):
        distance, near = min((np.abs(np.array(other) - box).max(), other) for other in theirs_by_box)
        assert distance < 1e-3
        assert score <= theirs_by_box[near] + 1e-5  # theirs also counts the separators' scores


def test_masks_are_those_of_the_librarys_own_processor(sam: Path) -> None:
    image = picture(size=(40, 64))
    boxes = torch.tensor([[2.0, 3.0, 30.0, 35.0], [10.0, 0.0, 64.0, 20.0]])
    ours = SegmentAnything(find_model(str(sam)), Runner(CPU))
    (view,) = ours.look_at([image])
    logits, iou = ours.masks_in_boxes(view, boxes)
    theirs = transformers.AutoProcessor.from_pretrained(sam, backend="pil")
    inputs = theirs(Image.fromarray(image), input_boxes=[boxes.tolist()], return_tensors="pt")
    inputs["input_boxes"] = inputs["input_boxes"].float()
    network = transformers.SamModel.from_pretrained(sam).eval()
    sizes = (inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes"))
    with torch.inference_mode():
        answer = network(**inputs, multimask_output=False)
    (masks,) = theirs.post_process_masks(answer.pred_masks, *sizes, binarize=False)
    torch.testing.assert_close(ours.enlarge(view, logits), masks[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(iou, answer.iou_scores[0, :, 0])


def test_the_way_from_image_to_mask_is_the_sum_of_its_parts(config: GroundedSamConfig) -> None:
    labeller, image = config.build(CPU), picture()
    (mask,) = labeller.label([image])
    (found,) = labeller.detector.find([image], config.box_threshold, config.text_threshold, config.ambiguous)
    assert len(set(found.classes.tolist())) > 1
    (view,) = labeller.segmenter.look_at([image])
    logits, _ = labeller.segmenter.masks_in_boxes(view, torch.from_numpy(found.boxes))
    masks = (labeller.segmenter.enlarge(view, logits) > 0).numpy()
    expected = painted(masks, found.scores, found.classes, image.shape[:2])
    assert mask.dtype == np.uint8
    assert (mask == expected).mean() > 0.995  # logits near zero may fall on either side
    assert len(np.unique(mask)) > 2


def test_the_same_image_gives_the_same_bytes_alone_and_in_company(config: GroundedSamConfig) -> None:
    images = [picture(0), picture(1, (56, 40)), picture(2)]
    together = config.build(CPU).label(images)
    again = config.build(CPU)
    for image, mask in zip(images, together, strict=True):
        (alone,) = again.label([image])
        assert alone.tobytes() == mask.tobytes()
        assert mask.shape == image.shape[:2]


@pytest.mark.parametrize("segmenter", ["sam", "sam2"])
def test_images_that_go_through_the_networks_together_get_the_masks_they_get_alone(
    segmenter: str, config: GroundedSamConfig, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(request.getfixturevalue(segmenter))
    images = [picture(0), picture(1, (56, 40)), picture(2), picture(3), picture(4), picture(5, (56, 40))]
    alone = changed(config, segmenter=folder).label(images)
    as_on_a_gpu(monkeypatch)
    together = changed(config, segmenter=folder, images_at_once=3)
    for order in (range(6), (4, 0), (5,)):
        for index, mask in zip(order, together.label([images[index] for index in order]), strict=True):
            assert mask.shape == images[index].shape[:2]
            assert (mask == alone[index]).mean() > 0.999


def test_images_without_boxes_are_left_unknown_beside_others(config: GroundedSamConfig) -> None:
    images = [picture(seed) for seed in range(4)]
    best = [float(found.scores.max()) for found in config.build(CPU).detector.find(images, 0.0, 0.0, "best")]
    between = changed(config, box_threshold=sorted(best)[1])
    empty = [bool((mask == 255).all()) for mask in between.label(images)]
    assert empty == [score <= sorted(best)[1] for score in best]


def test_masks_do_not_depend_on_how_many_boxes_are_drawn_together(config: GroundedSamConfig) -> None:
    (few,), (many,) = (changed(config, boxes_at_once=count).label([picture()]) for count in (1, 32))
    assert (few == many).mean() > 0.995


def test_sam_2_draws_masks_too(config: GroundedSamConfig, sam2: Path) -> None:
    labeller = changed(config, segmenter=str(sam2))
    first, second = labeller.label([picture(), picture(3, (40, 72))])
    assert first.shape == (48, 64)
    assert second.shape == (40, 72)
    assert len(np.unique(first)) > 1


def test_sam_2_is_found_in_the_video_model_that_it_is_published_as(config: GroundedSamConfig, tmp_path: Path) -> None:
    video = build_sam2(tmp_path, 5, video=True)
    assert find_model(str(video)).model_type == "sam2_video"
    labeller = changed(config, segmenter=str(video))
    theirs = load_file(video / "model.safetensors")
    state = labeller.segmenter.network.state_dict()
    assert len(state) < len(theirs)
    for name in ("mask_decoder.mask_tokens.weight", "prompt_encoder.no_mask_embed.weight"):
        assert torch.equal(state[name], theirs[name])
    (mask,) = labeller.label([picture()])
    assert len(np.unique(mask)) > 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("part", ["detector", "segmenter"])
def test_mixed_precision_moves_few_pixels(part: str, precision: Precision, config: GroundedSamConfig) -> None:
    labeller = config.build(CPU)
    (exact,) = labeller.label([picture()])
    getattr(labeller, part).runner = Runner(CPU, precision)  # which recipes may ask for on a GPU alone
    (mixed,) = labeller.label([picture()])
    assert (mixed == exact).mean() > 0.9
    with pytest.raises(UserError, match=rf"labeller.precision: {precision} needs a CUDA device"):
        changed(config, precision=precision)


def test_a_detector_with_short_texts_finds_boxes_for_phrases_of_all_of_them(
    config: GroundedSamConfig, tmp_path: Path
) -> None:
    labeller = changed(config, detector=str(build_grounding_dino(tmp_path, max_text_len=16)))
    assert len(labeller.detector.texts) > 2
    (found,) = labeller.detector.find([picture()], 0.0, 0.0, "best")
    assert len(found.boxes) == 12 * len(labeller.detector.texts)


def test_what_is_not_found_paints_nothing(config: GroundedSamConfig) -> None:
    (mask,) = changed(config, box_threshold=0.999).label([picture()])
    assert (mask == 255).all()
    (mask,) = changed(config, min_score=99.0).label([picture()])  # this network expects IoUs of about 5
    assert (mask == 255).all()


def test_provenance_is_json_and_the_same_every_time(config: GroundedSamConfig) -> None:
    said = config.build(CPU).provenance()
    assert json.loads(json.dumps(said)) == said == config.build(CPU).provenance()
    assert said["box_threshold"] == 0.005
    assert said["prompts"]["manmade"][-1] == "traffic sign"  # type: ignore[index]


def test_models_of_another_kind_are_refused(config: GroundedSamConfig, detector: Path, sam: Path) -> None:
    with pytest.raises(UserError, match="a model of type sam cannot be used here; those that can: grounding-dino"):
        changed(config, detector=str(sam))
    with pytest.raises(UserError, match="a model of type grounding-dino cannot be used here"):
        changed(config, segmenter=str(detector))


def test_prompts_that_the_detector_cannot_read_are_named(config: GroundedSamConfig, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("source: me\nclasses: [animal]\nphrases: {animal: [zebra]}\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"{path}: phrase 'zebra'"):
        changed(config, prompts=str(path))


def test_without_transformers_the_extra_is_named(config: GroundedSamConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'olivine\[vfm\]'"):
        config.build(CPU)
