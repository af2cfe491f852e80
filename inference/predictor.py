"""From slices to predictions: the one way that the worker, the command line and the benchmarks share.

Owns: decoding and preparing slices in threads while the engine runs, keeping their order, and turning the engine's
arrays into predictions with names. Refuses: to know files, jobs and databases, to hide an error that is not the
slice's own.

Same slice, same model, same engine, same machine: the same bits, alone or among ten thousand. Preparation looks at one
slice at a time, and engines promise that a row does not depend on its neighbours (`inference.engines.base`).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from os import sched_getaffinity
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from imaging.frames import Frame
from imaging.outcomes import RejectedFile
from imaging.preprocess import Box, Prepared, PreprocessingError, prepare
from inference import artefact as artefacts
from inference.artefact import Artefact
from inference.attention import Attention, attention
from inference.engines import Engine, EngineOutput, choose
from inference.guard import NO_GUARD, Abstention, Guard, Judgement, border_level
from inference.manifest import Manifest
from inference.memory import keep_freed_memory

Float32 = npt.NDArray[np.float32]
Slice = Frame | npt.NDArray[np.floating[Any]]
Source = TypeVar("Source")
Result = TypeVar("Result")
Read = Callable[[list[Source]], Sequence[Slice | Exception]]

STINT: Final = 8
"""So many slices a thread reads and prepares before it has them computed, where an engine takes each by itself. The
network empties the processor's caches: what runs between two slices starts cold, eight in a row only the first time."""

SLICE_ERRORS: Final = (RejectedFile, PreprocessingError)
"""What may be wrong with a slice itself; anything else is the system's fault and is not swallowed."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the model says of one slice.

    Attributes:
        class_name: The predicted class: the one with the largest score, the first among equals.
        probability: Of that class, after the temperature.
        probabilities: Of every class, in the model's order; they add up to 1.
        scores: Before softmax or sigmoid; one a class, or a single one for a sigmoid head.
        heatmap: float32 (gh, gw) in [0, 1] on the network's grid, for the predicted class.
        box: The square of the slice that the network saw, in its pixels; the heatmap covers exactly this square.
        features: float32 (c), pooled activations of the last convolution.
        blank: Whether no head was found in the slice; what the model says of it then means nothing.
        judgement: Whether the model may answer at all. When it abstains, class, probability and heatmap are what the
            network said, and no result: they are not to be shown or counted.
        attention: Whether the heatmap lies on the head.
    """

    class_name: str
    probability: float
    probabilities: Mapping[str, float]
    scores: tuple[float, ...]
    heatmap: Float32
    box: Box
    features: Float32
    blank: bool
    judgement: Judgement
    attention: Attention

    @property
    def abstention(self) -> Abstention | None:
        """Why the model does not answer; None when it does."""
        return self.judgement.abstention


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A slice as the network takes it, and the level of its edge as it came."""

    prepared: Prepared
    border: float


class Predictor:
    """A model ready for use.

    Build it in the process that uses it (neither threads nor engines survive a fork), use it from one thread at a
    time, and close it, best by `with`.

    Args:
        artefact: A verified artefact.
        engine: Of `inference.engines.choose`, for the same artefact.
        threads: For decoding and preparing; 0: one a core.
    """

    def __init__(self, artefact: Artefact, engine: Engine, threads: int = 0) -> None:
        self.manifest: Manifest = artefact.manifest
        self.digest: str = artefact.digest
        self.engine: Engine = engine
        self.guard: Guard | None = artefact.guard
        self._count = count = max(threads or len(sched_getaffinity(0)), engine.lanes)
        # A slice's pictures are small, and each core has one already: OpenCV's own threads would only be in the way.
        cv2.setNumThreads(1)
        keep_freed_memory()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="slices")

    def predict(self, frames: Sequence[Slice]) -> list[Prediction]:
        """Classifies slices that are decoded already.

        Args:
            frames: Frames, or grey arrays (h, w).

        Returns:
            One prediction a slice, in order.

        Raises:
            PreprocessingError: If an array is no slice.
        """
        results = []
        for _, result in self.predict_each(frames, lambda together: together):
            if isinstance(result, Exception):
                raise result
            results.append(result)
        return results

    def predict_each(
        self, sources: Iterable[Source], read: Read[Source]
    ) -> Iterator[tuple[Source, Prediction | Exception]]:
        """Reads and classifies slices one after another, in bounded memory.

        Args:
            sources: Whatever `read` understands, e.g. paths; consumed only a little ahead of the results.
            read: Decodes a few sources, at most `STINT`: for each its slice, or that one of `SLICE_ERRORS` which says
                why it has none; called in threads.

        Yields:
            Each source, in order, with its prediction, or with that one of `SLICE_ERRORS` which says why it has
            none.

        Raises:
            Exception: Whatever `read` raises, unchanged; the results of the sources before were yielded.
        """
        group: list[tuple[Source, _Ready | Exception]] = []
        size = self.engine.group
        if size == 1:
            # Each thread takes slices from their files to their results: every core is busy, none waits for a batch.
            for results in self._ahead(
                _stints(sources), lambda stint: list(self._run(self._prepared(stint, read))), self._count + 1
            ):
                yield from results
            return
        ahead = max(self._count + 1, -(-2 * size // STINT))
        for prepared in self._ahead(_stints(sources), lambda stint: self._prepared(stint, read), ahead):
            group += prepared
            while len(group) >= size:
                yield from self._run(group[:size])
                del group[:size]
        yield from self._run(group)

    def warm_up(self) -> None:
        """Runs one black slice, so that a model or engine that cannot run fails at start and not on a patient's slice.

        Raises:
            EngineError: If the engine fails.
        """
        size = self.manifest.network.input_size
        self.engine.run(np.zeros((1, size, size, 1), np.float32))

    def close(self) -> None:
        """Ends the threads and the engine."""
        self._pool.shutdown(cancel_futures=True)
        self.engine.close()

    def __enter__(self) -> Self:
        """The predictor itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()

    def _ahead(self, sources: Iterable[Source], work: Callable[[Source], Result], window: int) -> Iterator[Result]:
        """Does `work` in threads on at most `window` sources ahead; yields in order."""
        upcoming = iter(sources)
        waiting: deque[Future[Result]] = deque()
        try:
            while True:
                for source in islice(upcoming, window - len(waiting)):
                    waiting.append(self._pool.submit(work, source))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _prepared(self, sources: list[Source], read: Read[Source]) -> list[tuple[Source, _Ready | Exception]]:
        return [(source, self._prepare(one)) for source, one in zip(sources, read(sources), strict=True)]

    def _prepare(self, one: Slice | Exception) -> _Ready | Exception:
        if isinstance(one, Exception):
            return one
        try:
            pixels = one.pixels if isinstance(one, Frame) else one
            prepared = prepare(pixels, self.manifest.preprocessing)
            return _Ready(prepared, border_level(pixels) if self.guard else 0.0)
        except SLICE_ERRORS as error:
            return error

    def _run(self, group: list[tuple[Source, _Ready | Exception]]) -> Iterator[tuple[Source, Prediction | Exception]]:
        """Runs the engine on those of a group that could be prepared; yields all, in order."""
        images = [ready.prepared.image for _, ready in group if isinstance(ready, _Ready)]
        if not images:
            yield from ((source, error) for source, error in group if isinstance(error, Exception))
            return
        output = self.engine.run(np.stack(images)[..., np.newaxis])
        row = 0
        for source, ready in group:
            if isinstance(ready, Exception):
                yield source, ready
            else:
                yield source, _prediction(self.manifest, self.guard, output, row, ready)
                row += 1


def open_predictor(path: Path, expected_digest: str | None = None, engine: str = "auto", threads: int = 0) -> Predictor:
    """Loads a model and makes it ready, tried out with one black slice.

    Args:
        path: The artefact.
        expected_digest: See `inference.artefact.load`.
        engine: See `inference.engines.choose`.
        threads: Cores to use; 0: all.

    Raises:
        ArtefactError: If the artefact is not usable.
        EngineError: If the engine is not.
    """
    artefact = artefacts.load(path, expected_digest)
    predictor = Predictor(artefact, choose(engine, artefact, threads), threads)
    try:
        predictor.warm_up()
    except BaseException:
        predictor.close()
        raise
    return predictor


def _stints(sources: Iterable[Source]) -> Iterator[list[Source]]:
    upcoming = iter(sources)
    while stint := list(islice(upcoming, STINT)):
        yield stint


def _prediction(manifest: Manifest, guard: Guard | None, output: EngineOutput, row: int, ready: _Ready) -> Prediction:
    prepared = ready.prepared
    scores = output.scores[row]
    # By score, as the heatmap chooses its class: different scores can round to the same probability.
    best = int(scores[0] > 0) if len(scores) == 1 else int(np.argmax(scores))
    probabilities = dict(zip(manifest.class_names, map(float, output.probabilities[row]), strict=True))
    class_name = manifest.class_names[best]
    judgement = NO_GUARD
    if guard is not None:
        judgement = guard.judge(output.features[row], probabilities[class_name], ready.border, blank=prepared.blank)
    return Prediction(
        class_name=class_name,
        probability=probabilities[class_name],
        probabilities=probabilities,
        scores=tuple(map(float, scores)),
        # Copies: a view would keep the whole group's arrays in memory.
        heatmap=output.heatmaps[row].copy(),
        box=prepared.box,
        features=output.features[row].copy(),
        blank=prepared.blank,
        judgement=judgement,
        attention=attention(output.heatmaps[row], prepared.image),
    )
