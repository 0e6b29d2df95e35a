"""What pretrained VoxelNets see from above: `python benchmarks/feature_maps.py FOLDER PICTURE RUN [RUN ...]`.

Draws one frame of a dataset's folder: the height of its points, and beside it the map of each run's backbone, coloured
by the three leading principal components of its features. Pixels of one colour are alike to the network. With
`--untrained` the map of the first run's network before training stands first; `--frame N` draws another frame.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

import olivine
from olivine.backbones import VoxelNetConfig
from olivine.checking.check import open_any
from olivine.data.needs import Inputs
from olivine.errors import UserError
from olivine.inference import Model
from olivine.visualize.gallery import map_pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the dataset's folder")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("runs", nargs="+", help="run folders, or weights files")
    parser.add_argument("--frame", type=int, default=0)
    parser.add_argument("--untrained", action="store_true")
    args = parser.parse_args()
    models = {Path(run).name: olivine.load(run) for run in args.runs}
    if args.untrained:
        models = {"untrained": untrained(next(iter(models.values())))} | models
    (picture,) = map_pictures(open_any(args.folder)[0][args.frame], models)
    args.picture.write_bytes(picture.data)
    print(f"{args.picture}: {picture.caption}")


def untrained(model: Model) -> Model:
    """The network of a model with fresh weights, and batch norms that scale each cloud by itself."""
    config = VoxelNetConfig.model_validate(model.about["backbone"])
    torch.manual_seed(0)
    network = config.build(Inputs(model.voxels))
    network.train()  # its running statistics are of nothing
    return replace(model, network=network)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
