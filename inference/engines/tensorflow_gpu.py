"""TensorFlow, for GPUs (and on the CPU as the second opinion in the contract tests).

Owns: building an artefact's network from the registry, assigning its weights by path, and one compiled function of
fixed shape. Refuses: saved Keras models (they are code), weights that do not fit the network one to one, training.

The shape is fixed to `_BATCH` slices and short batches are padded with black slices, so that the library picks the
same kernels for a single slice as for a study, and never traces a second time. With a GPU, deterministic operations
are switched on for the process.
"""

import threading
from typing import Any, Final

import numpy as np

from inference.artefact import Artefact
from inference.engines.base import EngineOutput, Float32, allocate, check_images, check_output
from inference.errors import ArtefactError, EngineError

_BATCH: Final = 16


class TensorFlowEngine:
    """Runs an artefact's network with TensorFlow.

    Safe to call from several threads; calls wait for one another. Not safe to carry across a fork.

    Args:
        artefact: A verified artefact.
        threads: CPU threads; 0: TensorFlow's choice. Has effect only before TensorFlow was first used in the process.

    Raises:
        EngineError: If TensorFlow is not installed.
        ArtefactError: If weights and network do not fit.
    """

    name = "tensorflow"

    def __init__(self, artefact: Artefact, threads: int = 0) -> None:
        try:
            import tensorflow as tf
        except ImportError as error:
            raise EngineError(
                f"the TensorFlow engine needs the training requirements (requirements-train): {error}. Install them, "
                "or set NEUROSIGHT_ENGINE=openvino."
            ) from None
        from inference.gradcam import explained_model
        from inference.networks import NetworkError, build

        self._device = _prepare_devices(tf, threads)
        self._manifest = artefact.manifest
        self._lock = threading.Lock()
        facts = artefact.manifest.network
        try:
            network = build(facts.name, facts.input_size, artefact.manifest.class_names, facts.head)
            network.set_weights(artefact.weights())
        except NetworkError as error:
            raise ArtefactError(f"the model's network cannot be built again: {error}") from None
        model = explained_model(network, artefact.manifest.temperature)
        size = facts.input_size
        signature = tf.TensorSpec((_BATCH, size, size, 1), tf.float32)
        self._function = tf.function(lambda images: model(images, training=False), input_signature=[signature])
        self._model = model  # the function only borrows its variables

    @property
    def device(self) -> str:
        """Name of the GPU, or CPU."""
        return self._device

    @property
    def group(self) -> int:
        """The compiled batch."""
        return _BATCH

    @property
    def lanes(self) -> int:
        """One: a batch fills the device."""
        return 1

    def run(self, images: Float32) -> EngineOutput:
        """See `inference.engines.base.Engine.run`."""
        check_images(images, self._manifest.network.input_size)
        output = allocate(self._manifest, len(images))
        with self._lock:
            for start in range(0, len(images), _BATCH):
                rows = images[start : start + _BATCH]
                padded = np.zeros((_BATCH, *images.shape[1:]), np.float32)
                padded[: len(rows)] = rows
                for name, tensor in self._function(padded).items():
                    getattr(output, name)[start : start + len(rows)] = tensor.numpy()[: len(rows)]
        check_output(output)
        return output

    def close(self) -> None:
        """Drops the model. TensorFlow gives GPU memory back only when the process ends."""
        with self._lock:
            del self._function, self._model


def _prepare_devices(tf: Any, threads: int) -> str:
    """Memory growth on every GPU; threads on the CPU. Returns the device's name."""
    gpus = tf.config.list_physical_devices("GPU")
    try:
        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        # TensorFlow was used before in this process and keeps what it was given then.
        pass
    if not gpus:
        return "CPU"
    tf.config.experimental.enable_op_determinism()
    details = tf.config.experimental.get_device_details(gpus[0])
    return f"GPU, {details.get('device_name', 'unknown')}"
