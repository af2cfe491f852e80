"""The engines that run a model's graph.

Owns: the protocol (`base`), OpenVINO for CPU (`openvino_cpu`), TensorFlow for GPU (`tensorflow_gpu`), and the choice
between them (`choose`). One contract test suite runs on both. Refuses: to prepare pixels, to read files.
"""

from inference.engines.base import Engine, EngineOutput
from inference.engines.choice import ENGINE_NAMES, choose

__all__ = ["ENGINE_NAMES", "Engine", "EngineOutput", "choose"]
