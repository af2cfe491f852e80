"""OpenVINO on the CPU.

Owns: compiling an artefact's graph and running it. Refuses: TensorFlow, and every precision but float32 (processors
with bfloat16 would otherwise be given it without asking, and results would differ between machines).

Each slice is its own inference request over a graph of fixed batch 1, one request a core at a time, one thread each.
Measured, that is faster than batches (`python -m benchmarks.inference` shows it for the shipped model), and it makes a
slice's result independent of its neighbours and of the number of threads by construction: no sum is ever split. It
also lets several threads that decode slices hand each to the engine as soon as it is ready.
"""

import os
import queue
from collections import deque
from typing import Any

import openvino

from inference.artefact import Artefact
from inference.engines.base import EngineOutput, Float32, allocate, check_images, check_output
from inference.errors import EngineError
from inference.manifest import Manifest

_OUTPUTS = ("scores", "probabilities", "heatmaps", "features")


class OpenVinoEngine:
    """Runs an artefact's OpenVINO graph on the CPU.

    Safe to call from several threads, which share the cores. Not safe to carry across a fork: build it in the process
    that uses it.

    Args:
        artefact: A verified artefact.
        threads: Cores to use; 0: all that this process may run on.

    Raises:
        EngineError: If the graph cannot be read or does not fit the manifest.
    """

    name = "openvino"

    def __init__(self, artefact: Artefact, threads: int = 0) -> None:
        self._manifest = artefact.manifest
        self._threads = threads or len(os.sched_getaffinity(0))
        size = artefact.manifest.network.input_size
        try:
            core = openvino.Core()
            graph = core.read_model(artefact.openvino_xml, artefact.openvino_bin)
            graph.reshape([1, size, size, 1])
            compiled = core.compile_model(
                graph,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": "f32",
                    "PERFORMANCE_HINT": "THROUGHPUT",
                    "NUM_STREAMS": self._threads,
                    "INFERENCE_NUM_THREADS": self._threads,
                    # Pinned threads of several workers on one machine would pile up on the same cores.
                    "ENABLE_CPU_PINNING": False,
                },
            )
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot use the graph of this model: {error}. Export the model again with this version."
            ) from None
        _check_graph(compiled, artefact.manifest)
        self._idle: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        for _ in range(self._threads):
            self._idle.put(_Lane(compiled))

    @property
    def device(self) -> str:
        """Kind of processor and number of threads."""
        return f"CPU, {self._threads} threads"

    @property
    def group(self) -> int:
        """Each slice for itself."""
        return 1

    @property
    def lanes(self) -> int:
        """One a core."""
        return self._threads

    def run(self, images: Float32) -> EngineOutput:
        """See `inference.engines.base.Engine.run`."""
        check_images(images, self._manifest.network.input_size)
        output = allocate(self._manifest, len(images))
        running: deque[tuple[_Lane, int]] = deque()
        try:
            for row in range(len(images)):
                lane = self._next_lane(running, output)
                lane.image[...] = images[row]
                lane.request.start_async()
                running.append((lane, row))
            while running:
                self._idle.put(self._finish(running, output))
        finally:
            # After an error: no request may go on writing, and none may be lost to later calls.
            while running:
                lane, _ = running.popleft()
                lane.request.wait()
                self._idle.put(lane)
        check_output(output)
        return output

    def close(self) -> None:
        """Waits for the requests and drops them and the graph."""
        for _ in range(self._threads):
            self._idle.get()

    def _next_lane(self, running: "deque[tuple[_Lane, int]]", output: EngineOutput) -> "_Lane":
        """A lane that is free; when there is none, this call's own oldest one, once its result is kept."""
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            # Waiting for others while holding lanes could lock two calls against each other.
            return self._finish(running, output) if running else self._idle.get()

    def _finish(self, running: "deque[tuple[_Lane, int]]", output: EngineOutput) -> "_Lane":
        """Waits for the oldest request of a call and copies its results into its row."""
        lane, row = running[0]
        lane.request.wait()
        lane.keep(output, row)
        running.popleft()
        return lane


class _Lane:
    """One inference request, and its input and outputs as arrays (the graph's shapes are fixed, so they stay)."""

    def __init__(self, compiled: Any) -> None:
        self.request = compiled.create_infer_request()
        self.image = self.request.get_input_tensor(0).data
        self._outputs = {name: self.request.get_output_tensor(_index(compiled, name)).data for name in _OUTPUTS}

    def keep(self, output: EngineOutput, row: int) -> None:
        """Copies the results into a row."""
        for name, values in self._outputs.items():
            getattr(output, name)[row] = values[0]


def _index(compiled: Any, name: str) -> int:
    """Position of a named output.

    Raises:
        EngineError: If the graph has no such output.
    """
    for index, port in enumerate(compiled.outputs):
        if name in port.get_names():
            return index
    raise EngineError(f"the graph has no output {name!r}; expected {list(_OUTPUTS)}. Export the model again.")


def _check_graph(compiled: Any, manifest: Manifest) -> None:
    """Compares the graph's shapes with what the manifest promises."""
    expected = {
        "scores": (1, manifest.scores),
        "probabilities": (1, len(manifest.class_names)),
        "heatmaps": (1, *manifest.grid),
        "features": (1, manifest.feature_channels),
    }
    if len(compiled.inputs) != 1:
        raise EngineError(f"the graph has {len(compiled.inputs)} inputs; expected one. Export the model again.")
    for name, shape in expected.items():
        found = tuple(compiled.output(_index(compiled, name)).shape)
        if found != shape:
            raise EngineError(
                f"the graph's output {name!r} has shape {found}; the manifest promises {shape}. Export the model again."
            )
