"""`python -m olivine`: the same as the program `olivine`; for `torchrun -m olivine ...`."""

import sys

from olivine.cli import main

if __name__ == "__main__":
    sys.exit(main())
