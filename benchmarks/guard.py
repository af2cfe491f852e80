"""What the guard and the check of each heatmap cost, as a share of inference: `python -m benchmarks.guard`.

Owns: the comparison of one artefact with and without its guard on the same slices, by turns, in processor time of one
thread, which other work on the machine disturbs little. Refuses: to say how fast inference is (`benchmarks.inference`).
"""

import argparse
import statistics
import time
from dataclasses import replace

from config.settings import ROOT, load_settings
from imaging.limits import Limits
from imaging.reading import read_frame
from inference import artefact as artefacts
from inference.engines import choose
from inference.predictor import Predictor
from inference.shipped import default_model


def main() -> int:
    """Prints one line; returns 0, or 1 when the model has no guard."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=40)
    options = parser.parse_args()
    artefact = artefacts.load(*default_model(load_settings().models_dir))
    if artefact.guard is None:
        print("the default model has no guard")
        return 1
    folders = [ROOT / "examples" / name for name in ("one", "two", "three", "four")]
    files = sorted(path for folder in folders for path in folder.rglob("*.jpg"))[: options.slices]
    slices = [read_frame(path, 0, Limits()).pixels for path in files]
    bare = replace(artefact, guard=None)
    with (
        Predictor(artefact, choose("openvino", artefact, 1), 1) as guarded,
        Predictor(bare, choose("openvino", bare, 1), 1) as plain,
    ):
        for predictor in (guarded, plain):
            predictor.predict(slices[:4])
        times: dict[str, list[float]] = {"guarded": [], "plain": []}
        for _ in range(options.rounds):
            for name, predictor in (("guarded", guarded), ("plain", plain)):
                started = time.process_time()
                predictor.predict(slices)
                times[name].append((time.process_time() - started) / len(slices))
    best = {name: min(found) for name, found in times.items()}
    paired = [one / other - 1 for one, other in zip(times["guarded"], times["plain"], strict=True)]
    print(
        f"model {artefact.digest[:12]}, {len(slices)} slices, {options.rounds} rounds, processor time a slice: "
        f"{1000 * best['plain']:.2f} ms without the guard, {1000 * best['guarded']:.2f} ms with it; "
        f"{100 * (best['guarded'] / best['plain'] - 1):+.1f} % (best round), "
        f"{100 * statistics.median(paired):+.1f} % (median)"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
