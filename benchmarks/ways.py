"""The ways that are compared: ours, the engine without Grad-CAM, and what others do.

Owns: building each as a callable over prepared slices. Refuses: to make a rival slower than it has to be; where a
library has a faster setting, that one is taken.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from inference.artefact import Artefact
from inference.engines.openvino_cpu import OpenVinoEngine
from inference.networks import Network, build

Images = npt.NDArray[np.float32]
PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}


def raw_requests(artefact: Artefact, threads: int) -> Callable[[Images], int]:
    """The same graph cut off at the scores (no Grad-CAM), driven just as our engine drives the whole one."""
    queue = openvino.AsyncInferQueue(_compile(artefact, 1, "THROUGHPUT", threads, threads), threads)

    def run(images: Images) -> int:
        scores = np.empty((len(images), artefact.manifest.scores), np.float32)

        def keep(request: Any, row: int) -> None:
            scores[row] = request.get_output_tensor(0).data[0]

        queue.set_callback(keep)
        for row in range(len(images)):
            queue.start_async({0: images[row : row + 1]}, row)
        queue.wait_all()
        return len(scores)

    return run


def raw_batches(artefact: Artefact, threads: int, batch: int) -> Callable[[Images], int]:
    """The graph without Grad-CAM on whole batches, all cores on one batch: how batches are usually run."""
    compiled = _compile(artefact, batch, "LATENCY", 1, threads)

    def run(images: Images) -> int:
        for start in range(0, len(images), batch):
            compiled(images[start : start + batch])
        return len(images)

    return run


def ours(artefact: Artefact, threads: int) -> Callable[[Images], int]:
    """Score, probabilities, heatmap and features by the engine of the product."""
    engine = OpenVinoEngine(artefact, threads)
    return lambda images: len(engine.run(images).heatmaps)


def network_of(artefact: Artefact) -> Network:
    """The Keras network with the artefact's weights."""
    facts = artefact.manifest.network
    network = build(facts.name, facts.input_size, artefact.manifest.class_names, facts.head)
    network.set_weights(artefact.weights())
    return network


def gradient_tape(network: Network) -> Callable[[Images], int]:
    """Image by image: `model.predict`, then an eager gradient, as web applications commonly do."""
    import keras
    import tensorflow as tf

    maps = network.backbone.outputs[0]
    both = keras.Model(network.backbone.inputs[0], [maps, network.head(maps)])

    def run(images: Images) -> int:
        for row in range(len(images)):
            image = images[row : row + 1]
            predicted = int(network.model.predict(image, verbose=0).argmax())
            with tf.GradientTape() as tape:
                maps, scores = both(image, training=False)
                score = scores[:, predicted]
            weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2))
            heatmap = tf.nn.relu(tf.einsum("nhwc,nc->nhw", maps, weights)).numpy()
            heatmap /= max(float(heatmap.max()), 1e-12)
        return len(images)

    return run


def tf_keras_vis(network: Network, batch: int) -> Callable[[Images], int]:
    """tf-keras-vis 0.8.7 in batches: heatmaps only, not enlarged, the classes given for free."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports a module that SciPy has moved
        from tf_keras_vis.gradcam import Gradcam
        from tf_keras_vis.utils.scores import CategoricalScore

    last = network.backbone.layers[-1].name
    gradcam = Gradcam(network.model, clone=False)

    def run(images: Images) -> int:
        for start in range(0, len(images), batch):
            rows = images[start : start + batch]
            gradcam(
                CategoricalScore([0] * len(rows)),
                rows,
                penultimate_layer=last,
                seek_penultimate_conv_layer=False,
                expand_cam=False,
            )
        return len(images)

    return run


def _compile(artefact: Artefact, batch: int, hint: str, streams: int, threads: int) -> Any:
    core = openvino.Core()
    graph = core.read_model(artefact.openvino_xml, artefact.openvino_bin)
    scores = next(port for port in graph.outputs if "scores" in port.get_names())
    raw = openvino.Model([scores], graph.get_parameters())
    size = artefact.manifest.network.input_size
    raw.reshape([batch, size, size, 1])
    options = {"PERFORMANCE_HINT": hint, "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}
    return core.compile_model(raw, "CPU", {**PRECISION, **options, "ENABLE_CPU_PINNING": False})
