"""From a recipe to a pretrained backbone: dataset → samples → method → loop → weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from olivine.components import own_code
from olivine.data.augment import ImageAugment
from olivine.data.frame import Dataset
from olivine.data.intensity import check_intensity, range_of, warn_if_faint
from olivine.data.loader import Loader
from olivine.data.needs import Inputs, Needs
from olivine.data.pairs import PairConfig
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.second_view import ViewConfig, warn_if_alone
from olivine.data.superpixels import read_superpixel_manifest
from olivine.engine.distribution import Distribution
from olivine.engine.experiment import ExperimentConfig
from olivine.engine.inputs import digest_inputs
from olivine.engine.loop import check_training
from olivine.engine.run import LOOP_MAY_DIFFER
from olivine.errors import UserError
from olivine.methods import Method, MethodConfig
from olivine.weights.file import describe_heads, save_weights

MAY_DIFFER = (*LOOP_MAY_DIFFER, "method.teacher_cache.folder", "method.teacher_cache.max_gb")
"""Settings that may change when a run is resumed: the weights do not depend on them."""


class PretrainConfig(ExperimentConfig):
    """Pretrain a backbone; the defaults are the published ones for MinkUNet. 3-D labels never reach the method."""

    kind: Literal["pretrain"] = "pretrain"
    """What it is a recipe of."""

    images: ImageAugment = ImageAugment()
    """Size and augmentation of the images, for methods that use them."""

    pairs: PairConfig = PairConfig()
    """Which points count as seen by a camera."""

    views: ViewConfig = ViewConfig()
    """How two views of a frame come about, for methods that compare them."""

    method: MethodConfig
    """How it is pretrained."""


def pretrain(config: PretrainConfig, *, resume: bool = False) -> Path:
    """Pretrain a backbone and write its weights.

    Args:
        config: what to train, on what, and how.
        resume: continue an interrupted run of that name.

    Returns:
        The run's folder, with `weights.safetensors` in it.

    Raises:
        UserError: the data or the settings do not fit, or the disk is full.
        TrainingDiverged: a loss became NaN or infinite.
    """
    processes, dataset, method, loader = _ready(config)
    inputs = {**digest_inputs(dataset, method.needs), **method.digests}
    run = config.open_run(processes, inputs, resume=resume, may_differ=MAY_DIFFER)
    result = config.run_loop(method, loader, run, processes, resume=resume)
    if processes.main:
        for name, source in method.sources.items():
            run.log(f"{name}: {source}")
        save_weights(run.path, method.backbone, _about(config, dataset, method, result.steps), dict(method.heads))
    # Whatever comes next may read them, on every process.
    processes.wait()
    return run.path


def check_pretraining(config: PretrainConfig) -> None:
    """Refuse what `pretrain` would refuse before its folder exists; writes nothing.

    Raises:
        UserError: the data or the settings do not fit.
    """
    _ready(config)


def _ready(config: PretrainConfig) -> tuple[Distribution, Dataset, Method, Loader]:
    """All that a pretraining takes, checked."""
    processes = Distribution.start(config.train.precision)
    dataset = config.data.open(config.train_split)
    method = _build(config, dataset)
    loader = _loader(config, dataset, method, processes)
    check_training(method, loader, config.train, optimizer=config.optimizer)
    loader.try_frame()
    return processes, dataset, method, loader


def _build(config: PretrainConfig, dataset: Dataset) -> Method:
    """A fresh method, initialised from the run's seed and nothing else."""
    inputs = Inputs(config.voxels, 0 if dataset.manifest is None else len(dataset.manifest.classes))
    with config.initial_weights():
        return config.method.build(config.backbone, inputs)


def _loader(config: PretrainConfig, dataset: Dataset, method: Method, processes: Distribution) -> Loader:
    """This process's share of the samples, with just what the method needs."""
    _check_needs(config, dataset, method.needs)
    max_gap = config.views.max_gap if method.needs.second == "frame" else None
    if max_gap is not None:
        warn_if_alone(dataset, max_gap)
    return config.loader(dataset, prepare_for(config, method.needs), processes, max_gap=max_gap)


def prepare_for(config: PretrainConfig, needs: Needs) -> Prepare:
    """What makes samples of frames, with just what a method needs."""
    return Prepare(config.voxels, Augmentation(config.augment, config.images, config.pairs, config.views), needs)


def _check_needs(config: PretrainConfig, dataset: Dataset, needs: Needs) -> None:
    """Refuse a dataset or settings that cannot give a method what it asks for, before the first step."""
    config.check_augment(dataset, needs)
    if len(dataset) and "intensity" in config.voxels.features:
        check_intensity(dataset[0])
        warn_if_faint(dataset[0])
    if needs.images and len(dataset) and not dataset[0].cameras:
        raise UserError(f"data: {dataset.name} has no camera images here, and method {config.method.name} needs them")
    if needs.still_images and (config.images.crop or 0 < config.images.flip < 1):
        raise UserError(
            "method.teacher_cache keeps features of images that stay the same, and these are cut or mirrored at "
            "random; set images.crop=false images.flip=0, or method.teacher_cache=null"
        )
    if not needs.segments:
        return
    if dataset.superpixels is None:
        raise UserError(
            f"method {config.method.name} pools over superpixels, and the data has none; make them with "
            "`olivine label label_slic data.root=... out=FOLDER` and set data.superpixels=FOLDER"
        )
    read_superpixel_manifest(dataset.superpixels)


def _about(config: PretrainConfig, dataset: Dataset, method: Method, steps: int) -> dict[str, Any]:
    """What the weights say about themselves."""
    manifest = dataset.manifest if method.needs.weak_labels else None
    segments = dataset.superpixels if method.needs.segments else None
    weak_labels = None if manifest is None else {"classes": list(manifest.classes), "labeller": manifest.labeller}
    return {
        "task": "pretraining",
        "backbone": config.backbone.model_dump(mode="json"),
        "in_channels": config.voxels.channels,
        "voxels": config.voxels.model_dump(mode="json"),
        "intensity_max": range_of(dataset[0]),
        **config.describe_augment(method.needs),
        "heads": describe_heads(dict(method.heads)),
        "method": config.method.model_dump(mode="json"),
        "sources": method.sources,
        "own_code": own_code(config),
        "train": {
            "dataset": dataset.name,
            **config.train_split.model_dump(mode="json"),
            "frames": len(dataset),
            "scenes": list(dict.fromkeys(dataset.scene(index) for index in range(len(dataset)))),
            "weak_labels": weak_labels,
            "superpixels": None if segments is None else read_superpixel_manifest(segments),
        },
        "seed": config.train.seed,
        "steps": steps,
    }
