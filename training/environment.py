"""On what a run was trained.

Owns: versions, processor, threads, device and code version as JSON values, and the peak of memory. Refuses: names of
the machine, its users or its folders.
"""

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from config.version import code_version

_PACKAGES: Final = (
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "numpy",
    "opencv-python-headless",
    "scikit-learn",
    "imbalanced-learn",
)


def environment(threads: int) -> dict[str, Any]:
    """The facts of this process as JSON values.

    Args:
        threads: Threads that the numeric library was asked to use.

    Returns:
        `code_version`, `python`, `system`, `cpu`, `cores`, `threads`, `device` (gpu or cpu), `memory_bytes`, and
        `packages` by name.
    """
    return {
        "code_version": code_version(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "device": "gpu" if has_gpu() else "cpu",
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def peak_memory_bytes() -> int:
    """The most memory that this process ever had in use, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, KiB elsewhere


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
