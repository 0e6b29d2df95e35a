"""Commands that hand weights over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from olivine.cli.common import say

Layout = (
    "Layout: minkowski (a .pt file with a state dict of MinkUNet in it), openpcdet (a .pth file of a detector, or of "
    "its encoder), pointcept or mmdetection3d (a .pth file of MinkUNet)"
)
ToLayout = f"{Layout}, mmdetection3d_spconv or mmdetection3d_minkowski (the same on other libraries)."
FromLayout = f"{Layout}, or slidr_voxelnet (a .pt file with a VoxelNet of SLidR or OLIVINE in it)."


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
