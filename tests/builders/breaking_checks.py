"""The process of `olivine.doctor.device` with checks that raise, kill it, or pass."""

import os
import signal
import sys

import torch

from olivine.doctor import device
from olivine.doctor.check import Check


def _raises(place):
    raise ValueError("ill in\ntwo lines")


def _dies(place):
    os.kill(os.getpid(), signal.SIGKILL)


CHECKS = [
    Check("raises", _raises, 1e-6),
    Check("dies", _dies, 1e-6),
    Check("good", lambda place: [torch.ones(2, dtype=place.dtype)], 1e-6),
]

if __name__ == "__main__":
    device.checks_for = lambda *_: CHECKS
    sys.exit(device._main(sys.argv[1:]))
