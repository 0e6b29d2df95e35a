"""Command lines that `olivine COMMAND --help` shows; the tests read each as the command would."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("olivine demo", "olivine demo compare.out=elsewhere compare.seeds=[0]"),
    "simulate": (
        "olivine simulate datasets/sim scenes=4 keyframes_per_scene=10",
        "olivine simulate datasets/town layout.name=kitti_object layout.val_scenes=4",
        "olivine simulate datasets/town --recipe simulate_detection",
    ),
    "convert": (
        "olivine convert drive.mcap --list",
        "olivine convert drive.mcap datasets/drive keyframe_hz=5 cameras.CAM_REAR=null",
        "olivine convert logs/drive datasets/drive --recipe recipe.yaml",
    ),
    "check": (
        "olivine check datasets/nuscenes --pictures pictures",
        "olivine check datasets/mine --data my_package.my_module:MyDatasetConfig",
    ),
    "label": (
        "olivine label label_slic data.root=datasets/nuscenes out=datasets/superpixels",
        "olivine label label_grounded_sam data.root=datasets/nuscenes out=datasets/masks --shard 1/8",
        "olivine label --score score_nuscenes data.root=datasets/nuscenes",
    ),
    "pretrain": (
        "olivine pretrain olivine_nuscenes data.root=datasets/nuscenes data.masks=datasets/masks",
        "olivine pretrain olivine_nuscenes data.root=datasets/nuscenes data.masks=datasets/masks --resume",
        "torchrun --nproc-per-node 4 -m olivine pretrain slidr_nuscenes data.superpixels=datasets/superpixels",
    ),
    "segment": (
        "olivine segment finetune_nuscenes weights=runs/olivine_nuscenes",
        "olivine segment probe_nuscenes weights=runs/olivine_nuscenes name=probe train.seed=1",
    ),
    "detect": (
        "olivine detect second_kitti weights=runs/olivine_voxelnet_nuscenes",
        "olivine detect second_kitti train_split.every=20 name=second_kitti_5 train.seed=1",
    ),
    "evaluate": (
        "olivine evaluate runs/finetune_nuscenes val_split.split=test write_predictions=true",
        "olivine evaluate --detections results/data --labels datasets/kitti/training/label_2 --frames val --json",
    ),
    "predict": (
        "olivine predict runs/finetune_nuscenes datasets/nuscenes predictions/nuscenes split.split=val --pictures",
        "olivine predict runs/finetune_nuscenes scans/drive predictions/drive --format pcd --shard 1/4",
        "olivine predict runs/second_kitti datasets/kitti-object predictions/boxes --format jsonl",
    ),
    "explore": (
        "olivine explore datasets/nuscenes runs/olivine_nuscenes",
        "olivine explore runs/finetune_nuscenes --snapshot pictures --view 'frame=12&color=agreement'",
    ),
    "compare": ("olivine compare mini_kitti_methods seeds=[0,1,2] jobs=2",),
    "export": (
        "olivine export runs/olivine_nuscenes olivine.pt --to minkowski",
        "olivine export runs/second_kitti second.pth --to openpcdet",
    ),
    "import": (
        "olivine import slidr.pt weights/slidr --from minkowski intensity_max=255",
        "olivine import minkunet.pth weights/kitti --from mmdetection3d classes=semantickitti intensity_max=1",
    ),
    "recipes": ("olivine recipes",),
    "keys": ("olivine keys olivine_nuscenes method", "olivine keys ./mine.yaml"),
    "doctor": ("olivine doctor --json", "olivine doctor --device cuda"),
}
"""Command lines by command."""


def epilog(command: str) -> str:
    """What stands below a command's options."""
    lines = EXAMPLES[command]
    return "\n".join(["\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])
