"""`python -m olivine`: the same as the program `olivine`; for `torchrun -m olivine ...`."""

from __future__ import annotations

import os
import sys

from olivine.cli import main


def program() -> None:
    """Run the command line and end the process with its exit status."""
    status = main()
    if "WORLD_SIZE" in os.environ:
        # PyTorch keeps gloo's threads alive once gradients were shared. One that is still tidying up while the
        # interpreter shuts down aborts the process, so of several processes each ends without that.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    program()
