"""The command line: parse, call, print; no logic.

Results go to standard output, progress and trouble to standard error; of the processes of a `torchrun` only the first
says anything but trouble. Exit status 0 only on success; 2 for a user's mistake, with one line and no traceback; 1 for
anything else. Modules are imported inside the commands so that `olivine --help` answers at once.

A command is a function in one of the modules here, by what it is about; `program` lists them all.
"""

from olivine.cli.program import app, main

__all__ = ["app", "main"]
