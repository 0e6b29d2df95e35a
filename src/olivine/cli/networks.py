"""Commands that use trained networks and hand their weights over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from olivine.cli.common import AsJson, say

Layout = (
    "Layout: minkowski (a .pt file with a state dict of MinkUNet in it), openpcdet (a .pth file of a detector, or of "
    "its encoder), pointcept or mmdetection3d (a .pth file of MinkUNet)"
)
ToLayout = f"{Layout}, mmdetection3d_spconv or mmdetection3d_minkowski (the same on other libraries)."
FromLayout = f"{Layout}, or slidr_voxelnet (a .pt file with a VoxelNet of SLidR or OLIVINE in it)."


def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, its weights, or a file of `olivine export`.")],
    source: Annotated[Path, typer.Argument(help="A dataset, a log, or a scan or a folder of scans.")],
    out: Annotated[Path, typer.Argument(help="Folder of the predictions; new, or of an interrupted run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings, e.g. split.split=val batch_size=4", metavar="KEY=VALUE")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="label, lidarseg, pcd, ply or las; of boxes kitti or jsonl.")
    ] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="Draw three frames; pictures=N draws N.")] = False,
    shard: Annotated[str, typer.Option(help="Every n-th frame from the i-th; for job arrays.", metavar="I/N")] = "1/1",
    own: Annotated[
        str | None, typer.Option("--data", help="Open it as a dataset of your own.", metavar="MODULE:CLASS")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Classes of points, or boxes, of every frame. Continues where it was stopped. Exit 1 when frames have failed."""
    from olivine.config import from_overrides
    from olivine.data.shards import Shard
    from olivine.prediction import PredictConfig
    from olivine.prediction import predict as run

    options = [*([f"format={form}"] if form else []), *(["pictures=3"] if pictures else [])]
    config = from_overrides(PredictConfig, [*options, *(overrides or [])], "predict")
    summary = run(model, source, out, config, shard=Shard.parse(shard), own=own, progress=not as_json)
    say(json.dumps(summary.as_json()) if as_json else summary)
    if summary.failed:
        raise typer.Exit(1)


def export(
    run: Annotated[Path, typer.Argument(help="A run folder, or a weights file of one.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[str, typer.Option("--to", help=ToLayout)],
) -> None:
    """Write a backbone's weights in another project's layout."""
    from olivine.weights.foreign import export_weights

    say(export_weights(run, to, out))


def import_(
    file: Annotated[Path, typer.Argument(help="The file to read.")],
    out: Annotated[Path, typer.Argument(help="Folder to write weights to, for weights=... in recipes.")],
    layout: Annotated[str, typer.Option("--from", help=FromLayout)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="What the file does not say, e.g. intensity_max=255", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Read a backbone's weights from another project's layout."""
    from olivine.weights.foreign import import_weights

    say(import_weights(file, layout, out, overrides or []))
