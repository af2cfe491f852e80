"""The command line of training: `python -m training run --scenario FILE --data FOLDER --weights-dir FOLDER --out DIR`.

Owns: arguments, logging, exit status. Refuses: to decide anything that belongs to the scenario.
"""

import argparse
import logging
import sys
from pathlib import Path

from training.errors import TrainingError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 a plain error, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train, evaluate once and export a model.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("fit", "train only; the test part is not touched"),
        ("run", "train (or go on, or read the finished run), evaluate once on the test part, export"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--scenario", type=Path, required=True, help="YAML, e.g. config/scenarios/shipped.yaml")
        command.add_argument("--data", type=Path, required=True, help="folder with manifest.csv or one folder a class")
        command.add_argument("--weights-dir", type=Path, help="folder of ImageNet weights")
        command.add_argument("--out", type=Path, required=True, help="folder of the artefact, the card and the split")
        command.add_argument("--state-dir", type=Path, default=Path("var/training"), help="folder of unfinished runs")
        command.add_argument("--threads", type=int, default=2, help="threads of the numeric library")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        return _run(options)
    except (TrainingError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last finished epoch", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    import cv2

    from training.groups import fit
    from training.pipeline import gather
    from training.recorder import JsonLinesRecorder
    from training.scenario_files import load_scenario

    cv2.setNumThreads(1)  # the numeric library has the cores; pictures are small
    scenario = load_scenario(options.scenario)
    material = gather(scenario, options.data, options.out / f"{scenario.name}.split.csv")
    recorder = JsonLinesRecorder(options.state_dir / f"{scenario.name}.log.jsonl")
    state, cache = options.state_dir, options.state_dir / "features"
    result = fit(scenario, material, state, recorder, options.weights_dir, cache, options.threads)
    if options.command == "run":
        from training.shipping import ship

        ship(scenario, material, result, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
