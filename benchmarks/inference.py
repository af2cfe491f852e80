"""How fast slices are classified and explained: `python -m benchmarks.inference` (part of `make bench`).

Owns: the comparison, in one run, of the engine's raw forward pass, score and heatmap in one graph, the whole way of
the worker, and what others do. Needs the training requirements for the latter.
"""

import argparse
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import structlog

from benchmarks import ways
from benchmarks.measure import Way, alternate, machine, table, timed, verdict
from benchmarks.whole_way import STUDIES, WholeWay
from config.settings import load_settings
from imaging.limits import Limits
from imaging.preprocess import Preprocessing, prepare
from imaging.reading import read_frame
from inference.artefact import Artefact, load
from inference.shipped import default_model

RAW = "raw forward, one request a core"
RAW_BATCH = "raw forward, batches of 16"
OURS = "score + heatmap (the engine)"
WHOLE = "whole way of the worker, {}"
TAPE = "per image: predict + GradientTape"
VIS = "tf-keras-vis, batches of 16, heatmap only"

TARGETED = ("uncompressed DICOM", "PNG", "JPEG")
"""Ways of storing whose whole way has a target; the decoders of the others take as long as they take."""

PACKAGES = ("openvino", "tensorflow-cpu", "keras", "tf-keras-vis", "numpy", "opencv-python-headless", "pydicom")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit status 1 when a target was missed and `--check` was given."""
    arguments = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    facts = machine(PACKAGES)
    settings = load_settings()
    model, digest = (arguments.model, None) if arguments.model else default_model(settings.models_dir)
    artefact = load(model, digest)
    threads = len(os.sched_getaffinity(0))
    studies = {
        WHOLE.format(name): sorted(path for path in folder.rglob("*.*") if path.is_file())
        for name, folder in STUDIES.items()
    }
    images = _images(list(chain.from_iterable(studies.values())), arguments.slices, artefact.manifest.preprocessing)
    few = images[: arguments.few]

    with (
        tempfile.TemporaryDirectory(prefix="neurosight-bench-") as folder,
        WholeWay(Path(folder), model, artefact.digest, threads) as whole,
    ):
        raw, raw_batch = ways.raw_requests(artefact, threads), ways.raw_batches(artefact, threads, 16)
        ours = ways.ours(artefact, threads)
        others = [] if arguments.ours else _others(artefact, few)
        rates = alternate(
            [
                Way(RAW, timed(lambda: raw(images))),
                Way(OURS, timed(lambda: ours(images))),
                *(Way(name, partial(whole.run, files, len(images))) for name, files in studies.items()),
                Way(RAW_BATCH, timed(lambda: raw_batch(images))),
                *others,
            ],
            arguments.rounds,
            lambda text: print(f"... {text}", file=sys.stderr, flush=True),
        )
    # The stricter of the two ways to run the engine without Grad-CAM is what we are measured by; by processor time,
    # because on a busy machine the clock may take either for the faster one.
    base = min(RAW, RAW_BATCH, key=rates.cpu_median)
    targeted = [WHOLE.format(name) for name in TARGETED]
    manifest = artefact.manifest
    print(
        f"\nInference: {manifest.network.name}, {manifest.network.input_size} x {manifest.network.input_size}, ", end=""
    )
    print(f"model {artefact.digest[:12]}; {len(images)} slices a round ({len(few)} for the slow ways), ", end="")
    print(f"{arguments.rounds} rounds, medians; ratio to: {base}\n{facts}\n\n{table(rates, base)}\n")
    targets = [
        (f"{OURS} / {base}", rates.ratio(OURS, base), 0.95),
        *((f"{name} / {base}", rates.ratio(name, base), 0.85) for name in targeted),
        *((f"{name} / {base}, by processor time", rates.cpu_ratio(name, base), 0.85) for name in targeted),
        *((f"{OURS} / {VIS}", rates.ratio(OURS, VIS), 10.0) for way in others if way.name == VIS),
    ]
    for what, value, limit in targets:
        print(verdict(what, value, limit))
    return 1 if arguments.check and any(value < limit for _, value, limit in targets) else 0


def _others(artefact: Artefact, few: ways.Images) -> list[Way]:
    """What others do."""
    network = ways.network_of(artefact)
    tape, vis = ways.gradient_tape(network), ways.tf_keras_vis(network, 16)
    return [Way(TAPE, timed(lambda: tape(few))), Way(VIS, timed(lambda: vis(few)))]


def _images(examples: list[Path], count: int, preprocessing: Preprocessing) -> ways.Images:
    """Prepared slices (count, S, S, 1), the examples over and over."""
    limits = Limits()
    each = [prepare(read_frame(path, 0, limits).pixels, preprocessing).image for path in examples[:count]]
    return np.stack([each[number % len(each)] for number in range(count)])[..., np.newaxis]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description="Compare ways of inference.")
    parser.add_argument("--model", type=Path, metavar="FILE", help="a .neurosight file; default: the shipped model")
    parser.add_argument("--slices", type=int, default=128, help="slices a round (default 128)")
    parser.add_argument("--few", type=int, default=16, help="slices a round for the slow ways (default 16)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--ours", action="store_true", help="leave out what others do (needs no TensorFlow)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
