"""Runs that share work.

Owns: which scenarios may be trained together, and training such a group from its material to one result or failure a
run. Refuses: the data set's split, evaluation, and everything about databases and queues: progress goes to recorders.

With a frozen backbone all runs of a group are trained in lockstep on the features of one forward pass. With a frozen
prefix its output is made once, and the runs are trained one after another. A network that learns as a whole shares
nothing. Either way each run's numbers are those of the run trained alone.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from training.cache import DEFAULT_MAX_BYTES, ArrayCache
from training.datasets import prepare_all
from training.errors import RunError
from training.failures import Code, RunFailure, failure_of
from training.features import FeatureFeed, Sources
from training.learner import Learner
from training.lockstep import Lane, open_lane, train
from training.pipeline import Material
from training.recorder import Recorder
from training.runs import Part, RunResult
from training.sampling import Feed, PictureFeed
from training.scenario import Scenario
from training.ways import (
    Weights,
    frozen_backbone,
    frozen_prefix,
    head_learner,
    suffix_learner,
    whole_learner,
)

log = logging.getLogger(__name__)

Ended = Callable[[RunResult | RunFailure], None]

_OWN: Final = frozenset(
    {
        "name",
        "head",
        "optimizer",
        "learning_rate",
        "weight_decay",
        "warm_up_epochs",
        "schedule",
        "ema_decay",
        "clip_norm",
        "patience_epochs",
    }
)
"""Fields that act on the learning part alone: runs that differ in these see the same batches of the same features."""


def sharing_key(scenario: Scenario) -> str:
    """Runs of equal key, on the same data, share work when they are given to `train_group` together.

    Returns:
        Lower-case hexadecimal SHA-256; with `learns: all` every scenario has its own.
    """
    if scenario.learns == "all":
        return scenario.digest()
    shared = {name: value for name, value in scenario.to_json().items() if name not in _OWN}
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def state_path(folder: Path, scenario: Scenario) -> Path:
    """Where `train_group` keeps the state of a run."""
    return folder / f"{scenario.name}.state.npz"


def train_group(
    scenarios: Sequence[Scenario],
    material: Material,
    folder: Path,
    recorders: Sequence[Recorder],
    weights_dir: Path | None,
    cache_dir: Path,
    threads: int = 2,
    *,
    models_dir: Path | None = None,
    max_cache_bytes: int = DEFAULT_MAX_BYTES,
    ended: Ended = lambda end: None,
) -> list[RunResult | RunFailure]:
    """Train runs that share work, or go on where their states end.

    Args:
        scenarios: One or more of one `sharing_key`, with different names.
        material: Data and split, the same for all.
        folder: Of the states, one file a run.
        recorders: One for each scenario.
        weights_dir: Folder of ImageNet weights and of artefacts to start from.
        cache_dir: Folder of the frozen parts' outputs; shared by all sweeps.
        threads: Threads of the numeric library.
        models_dir: Another folder of artefacts to start from.
        max_cache_bytes: The most that the cache may take.
        ended: Is called with each result or failure as soon as there is one.

    Returns:
        One result or failure for each scenario, in their order. A run that its recorder stopped has a result with
        `stopped`; it goes on from its last finished epoch when it is given again.

    Raises:
        RunError: The scenarios do not belong together: a mistake of the caller.
    """
    if len({sharing_key(s) for s in scenarios}) != 1 or len({s.name for s in scenarios}) != len(scenarios):
        raise RunError("A group needs scenarios of one sharing key and of different names.")
    _prepare_tensorflow(threads)
    group = _Group(scenarios, material, folder, recorders, [d for d in (weights_dir, models_dir) if d], threads, ended)
    try:
        way = group.way(cache_dir, max_cache_bytes)
    except Exception as error:
        # What all share failed: the weights, the cut, the pictures.
        known = failure_of(error)
        if known is None:
            raise
        group.fail_all(*known)
    else:
        group.train(way)
    return [group.ends[scenario.name] for scenario in scenarios]


def fit(
    scenario: Scenario,
    material: Material,
    folder: Path,
    recorder: Recorder,
    weights_dir: Path | None,
    cache_dir: Path,
    threads: int = 2,
    *,
    models_dir: Path | None = None,
) -> RunResult:
    """Train one run by itself; arguments as of `train_group`.

    Raises:
        RunError: It failed; the message says why.
    """
    (end,) = train_group(
        [scenario], material, folder, [recorder], weights_dir, cache_dir, threads, models_dir=models_dir
    )
    if isinstance(end, RunFailure):
        raise RunError(end.detail)
    return end


@dataclass(frozen=True)
class _Way:
    """What the runs of a group share.

    Attributes:
        feed: The batches.
        learner: Makes what a run trains.
        frozen_digest: Of the weights that do not learn.
        frozen: These weights, by path.
        lockstep: Whether the runs are trained side by side, or one after another to spare memory.
    """

    feed: Feed
    learner: Callable[[Scenario], Learner]
    frozen_digest: str
    frozen: Weights
    lockstep: bool


class _Group:
    """The runs of one call."""

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        material: Material,
        folder: Path,
        recorders: Sequence[Recorder],
        folders: Sequence[Path],
        threads: int,
        ended: Ended,
    ) -> None:
        self.ends: dict[str, RunResult | RunFailure] = {}
        self._runs = list(zip(scenarios, recorders, strict=True))
        self._folder, self._folders, self._threads, self._ended = folder, folders, threads, ended
        self._material = material
        shared = scenarios[0]
        train, validation = material.of("train"), material.of("validation")
        larger = replace(shared.preprocessing, size=shared.cache_size)
        self._sources = Sources(
            train=cache(lambda: Part(prepare_all(material.dataset, train, larger), train)),
            validation=cache(lambda: Part(prepare_all(material.dataset, validation, shared.preprocessing), validation)),
            train_samples=train,
            validation_samples=validation,
            fingerprint=material.fingerprint,
        )
        self._labels = np.array([shared.class_names.index(s.label) for s in validation], np.int64)

    def way(self, cache_dir: Path, max_cache_bytes: int) -> "_Way":
        """What the runs share, in the way that their scenarios say."""
        shared, folders = self._runs[0][0], self._folders
        if shared.learns == "all":
            pictures = PictureFeed(shared, self._sources.train(), self._sources.validation())
            return _Way(pictures, lambda s: whole_learner(s, folders, pictures.steps), "", {}, lockstep=False)
        head = shared.learns == "head"
        frozen = (frozen_backbone if head else frozen_prefix)(shared, folders)
        feed = FeatureFeed(shared, frozen.part, self._sources, ArrayCache(cache_dir, max_cache_bytes))
        channels = int(frozen.part.model.output_shape[-1])

        def learner(scenario: Scenario) -> Learner:
            if head:
                return head_learner(scenario, folders, feed.steps, channels)
            return suffix_learner(scenario, folders, feed.steps)

        return _Way(feed, learner, frozen.part.digest, frozen.weights, lockstep=head)

    def train(self, way: "_Way") -> None:
        """Train all runs, side by side or one after another."""
        for runs in [self._runs] if way.lockstep else [[run] for run in self._runs]:
            lanes = [lane for scenario, recorder in runs if (lane := self._lane(way, scenario, recorder))]
            if lanes:
                train(lanes, way.feed, self._labels, self._threads, self._note)

    def fail_all(self, code: Code, detail: str) -> None:
        """Every run fails of the same."""
        for scenario, recorder in self._runs:
            self._fail(scenario, recorder, code, detail)

    def _lane(self, way: "_Way", scenario: Scenario, recorder: Recorder) -> Lane | None:
        """A run, ready to begin or to go on; None when it failed, alone."""
        path, fingerprint = state_path(self._folder, scenario), self._material.fingerprint
        try:
            return open_lane(
                scenario, way.learner(scenario), fingerprint, way.frozen_digest, way.frozen, path, recorder
            )
        except Exception as error:
            known = failure_of(error)
            if known is None:
                raise
            self._fail(scenario, recorder, *known)
            return None

    def _fail(self, scenario: Scenario, recorder: Recorder, code: Code, detail: str) -> None:
        log.warning("%s failed (%s): %s", scenario.name, code, detail)
        recorder.failed(code, detail)
        self._note(RunFailure(scenario.name, code, detail))

    def _note(self, end: RunResult | RunFailure) -> None:
        self.ends[end.name] = end
        self._ended(end)


def _prepare_tensorflow(threads: int) -> None:
    """Same numbers each time, and so many threads, as long as TensorFlow has not started working."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        log.info("TensorFlow already runs; its number of threads stays as it is")
