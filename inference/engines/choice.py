"""Which engine runs a model.

Owns: the rule of `auto`. Refuses: to import TensorFlow only to find out that there is no GPU (that costs seconds and
hundreds of megabytes in every CPU worker).
"""

import importlib.util
from pathlib import Path
from typing import Final

from inference.artefact import Artefact
from inference.engines.base import Engine
from inference.errors import EngineError

ENGINE_NAMES: Final = ("auto", "openvino", "tensorflow")

# NVIDIA's driver, NVIDIA under WSL, AMD's driver: without one of these TensorFlow cannot see a GPU.
_GPU_DEVICE_FILES: Final = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))


def choose(name: str, artefact: Artefact, threads: int = 0) -> Engine:
    """Builds the engine for a model.

    Args:
        name: `openvino`, `tensorflow`, or `auto`: TensorFlow where it is installed and sees a GPU, else OpenVINO.
        artefact: A verified artefact.
        threads: CPU threads; 0: all.

    Raises:
        EngineError: For an unknown name, or an engine that is not installed.
        ArtefactError: If the model does not fit the engine.
    """
    if name not in ENGINE_NAMES:
        raise EngineError(f"there is no engine {name!r}; expected one of {', '.join(ENGINE_NAMES)}.")
    if name == "tensorflow" or (name == "auto" and _gpu_visible()):
        from inference.engines.tensorflow_gpu import TensorFlowEngine

        return TensorFlowEngine(artefact, threads)
    from inference.engines.openvino_cpu import OpenVinoEngine

    return OpenVinoEngine(artefact, threads)


def _gpu_visible() -> bool:
    """Whether TensorFlow is installed and has a GPU."""
    if importlib.util.find_spec("tensorflow") is None or not any(path.exists() for path in _GPU_DEVICE_FILES):
        return False
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
