"""How much faster a sweep is than its scenarios one at a time: `make bench-sweep`.

Owns: the comparison, in one run, of the 27 frozen scenarios of `config/scenarios/thesis.yaml` trained as a sweep and
trained one after another in the ordinary Keras way (`compile` and `fit` with a frozen backbone). Both are carried to
their ends on the same bounded part of the data: same slices, same augmented views in the same order (one fresh view of
each item an epoch: nothing is saved on augmentation beyond doing it once), same epochs, validation after each. Refuses:
to say anything about accuracy; on so few slices there is none.

Pictures are read and prepared in advance for the ordinary way, and within the measured time for the sweep. Early
stopping is off, so that both do the same number of epochs.
"""

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.measure import machine, verdict
from config.settings import ROOT
from inference.networks import backbone_spec, build
from training.balance import training_items
from training.datasets import Dataset, Sample, file_digests, fingerprint, prepare_all
from training.environment import has_gpu
from training.failures import RunFailure
from training.groups import sharing_key, train_group
from training.leaks import LeakReport, Pairs
from training.optimizers import make_optimizer
from training.pipeline import Material, gather
from training.recorder import JsonLinesRecorder
from training.sampling import Batch, epoch_order, item_labels, item_view, picture_batches
from training.scenario import Phase, Scenario
from training.scenario_files import load_scenarios
from training.start import start

PACKAGES = ("tensorflow-cpu", "keras", "numpy", "opencv-python-headless")
TARGET = 8.0


class Took(NamedTuple):
    """What a way took: seconds by the clock, and of all threads of this process."""

    seconds: float
    cpu_seconds: float


class Pictures(NamedTuple):
    """Prepared slices, uint8 (n, s, s): for training at the size that is augmented, for validation as they are."""

    train: npt.NDArray[np.uint8]
    validation: npt.NDArray[np.uint8]


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit status 1 when the target was missed and `--check` was given."""
    options = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    facts = machine(PACKAGES)
    device = "gpu" if has_gpu() else "cpu"  # imports TensorFlow, which neither way shall pay for
    scenarios = [_bounded(s, options) for s in load_scenarios(ROOT / "config/scenarios/thesis.yaml").scenarios]
    with tempfile.TemporaryDirectory(prefix="neurosight-bench-") as folder:
        material = _material(scenarios[0], options, Path(folder))
        slices = {part: len(material.of(part)) for part in ("train", "validation")}
        items = len(training_items(scenarios[0], material.of("train")).rows)
        print(facts, file=sys.stderr)
        ours = _timed(lambda: _as_a_sweep(scenarios, material, Path(folder), options))
        pictures = _prepare(scenarios[0], material)
        theirs = _timed(lambda: _one_at_a_time(scenarios, material, pictures, options))
    random = sorted({s.network for s in scenarios if s.weights == "none"})
    print(
        f"\n{facts}\ndevice: {device}, {options.threads} threads\n"
        f"work: {len(scenarios)} scenarios x {options.epochs} epochs x {items} items of {slices['train']} slices, "
        f"{slices['validation']} validation slices, {options.size} x {options.size} pixels"
        + (f"; random weights for {', '.join(random)} (the work is the same)" if random else "")
        + "\n\n"
        f"{'way':<32} {'seconds':>9} {'CPU s':>9}\n"
        f"{'one at a time, ordinary Keras':<32} {theirs.seconds:9.1f} {theirs.cpu_seconds:9.1f}\n"
        f"{'as a sweep':<32} {ours.seconds:9.1f} {ours.cpu_seconds:9.1f}\n"
    )
    ratio = theirs.seconds / ours.seconds
    print(verdict("sweep, times faster by the clock", ratio, TARGET))
    print(f"        by CPU time: {theirs.cpu_seconds / ours.cpu_seconds:.3g}")
    return 1 if options.check and ratio < TARGET else 0


def _as_a_sweep(scenarios: Sequence[Scenario], material: Material, folder: Path, options: argparse.Namespace) -> None:
    """Groups in lockstep, as `python -m training sweep` trains them; states are written after each epoch."""
    groups: dict[str, list[Scenario]] = {}
    for scenario in scenarios:
        groups.setdefault(sharing_key(scenario), []).append(scenario)
    for group in groups.values():
        print(f"as a sweep: {group[0].network}, {len(group)} runs", file=sys.stderr)
        recorders = [JsonLinesRecorder(folder / f"{s.name}.jsonl", s.name) for s in group]
        weights_dir, features = options.weights_dir, folder / "features"
        for end in train_group(group, material, folder, recorders, weights_dir, features, options.threads):
            if isinstance(end, RunFailure):
                raise SystemExit(f"{end.name} failed: {end.detail}")


def _one_at_a_time(
    scenarios: Sequence[Scenario], material: Material, pictures: Pictures, options: argparse.Namespace
) -> None:
    """Each scenario as one would write it for itself."""
    import keras

    samples = material.of("validation")
    labels = np.array([scenarios[0].class_names.index(s.label) for s in samples], np.float32)[:, None]
    validation = np.concatenate(list(picture_batches(pictures.validation))), labels
    for scenario in scenarios:
        print(f"one at a time: {scenario.name}", file=sys.stderr)
        keras.utils.set_random_seed(scenario.seed)
        network = build(scenario.network, scenario.preprocessing.size, scenario.class_names, scenario.head)
        start(network, scenario, [options.weights_dir] if options.weights_dir else [])
        network.backbone.trainable = False
        network.model.compile(make_optimizer(scenario), keras.losses.BinaryCrossentropy(from_logits=True))
        network.model.fit(
            _views(scenario, material, pictures),
            validation_data=validation,
            validation_batch_size=64,
            epochs=scenario.epochs,
            verbose=0,
        )
        keras.backend.clear_session()


def _views(scenario: Scenario, material: Material, pictures: Pictures) -> Any:
    """The training batches as Keras takes them, made in a thread ahead of the step."""
    import keras

    samples = material.of("train")
    items = training_items(scenario, samples)
    labels = item_labels(scenario, samples, items)

    class Views(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(workers=1)
            self._epoch = 0

        def __len__(self) -> int:
            return len(items.rows) // scenario.batch

        def __getitem__(self, number: int) -> Batch:
            order = epoch_order(scenario, samples, items, self._epoch)
            chosen = order[number * scenario.batch : (number + 1) * scenario.batch]
            views = np.stack([item_view(pictures.train, items, int(i), self._epoch, scenario) for i in chosen])
            return views, labels[chosen, None].astype(np.float32)

        def on_epoch_end(self) -> None:
            self._epoch += 1

    return Views()


def _bounded(scenario: Scenario, options: argparse.Namespace) -> Scenario:
    """The scenario at the benchmark's size; without ImageNet weights for its network it starts at random."""
    file = backbone_spec(scenario.network).imagenet_file
    found = options.weights_dir is not None and (options.weights_dir / file).is_file()
    return replace(
        scenario,
        weights="imagenet" if found else "none",
        preprocessing=replace(scenario.preprocessing, size=options.size),
        cache_size=options.size * 8 // 7,
        planes=scenario.planes if options.data else (),
        static_per_class=options.items // 2,
        views=options.epochs,
        phases=(Phase(options.size, options.epochs),),
        patience_epochs=0,
    )


def _material(scenario: Scenario, options: argparse.Namespace, folder: Path) -> Material:
    """At most as many slices of each class as asked for; of the examples a quarter is for validation."""
    if options.data:
        whole = gather(scenario, options.data, folder / "split.csv")
        root = whole.dataset.root
        parts = {part: whole.of(part) for part in ("train", "validation")}
    else:
        root = ROOT / "examples"
        samples = _examples(scenario.class_names)
        parts = {"train": tuple(s for i, s in enumerate(samples) if i % 4), "validation": tuple(samples[::4])}
    limits = {"train": options.items // 2, "validation": options.validation // 2}
    kept = [
        (sample, part)
        for part, found in parts.items()
        for label in scenario.class_names
        for sample in [s for s in found if s.label == label][: limits[part]]
    ]
    dataset = Dataset(root, tuple(sample for sample, _ in kept))
    places = tuple(part for _, part in kept)
    leaks = LeakReport(np.arange(len(kept)), Pairs.none(), dataset.samples)
    return Material(dataset, leaks, places, fingerprint(dataset, file_digests(dataset), places))


def _examples(class_names: Sequence[str]) -> list[Sample]:
    """The pictures that come with the repository; too few and too alike to learn from, enough to measure with."""
    with (ROOT / "examples" / "provenance.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in class_names]
    return [Sample(row["picture"], row["label"], row["source_patient"], row["plane"]) for row in rows]


def _prepare(scenario: Scenario, material: Material) -> Pictures:
    """What the ordinary way starts from."""
    larger = replace(scenario.preprocessing, size=scenario.cache_size)
    return Pictures(
        prepare_all(material.dataset, material.of("train"), larger),
        prepare_all(material.dataset, material.of("validation"), scenario.preprocessing),
    )


def _timed(work: Callable[[], None]) -> Took:
    started, cpu_started = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - started, time.process_time() - cpu_started)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="data set; without one the pictures in examples/ are used")
    parser.add_argument("--weights-dir", type=Path, help="folder of ImageNet weights; what is missing is random")
    parser.add_argument("--items", type=int, default=192, help="training items of an epoch")
    parser.add_argument("--validation", type=int, default=64, help="validation slices, at most")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=96, help="side of the pictures")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--check", action="store_true", help="exit status 1 when the target is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
