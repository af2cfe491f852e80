"""The command line of training: `python -m training run|fit|sweep|guard|faithfulness`.

Owns: arguments, logging, exit status. Refuses: to decide anything that belongs to the scenario.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from inference.errors import InferenceError
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
        command.add_argument("--start", type=Path, metavar="FILE", help="artefact to start from, in place of `weights`")
        _add_folders(command)
    command = commands.add_parser("sweep", help="train and evaluate every scenario of a file, without a server")
    command.add_argument("--scenarios", type=Path, required=True, help="YAML, e.g. config/scenarios/thesis.yaml")
    command.add_argument("--only", nargs="+", default=[], metavar="NAME", help="some of them, by name")
    command.add_argument("--no-test", action="store_true", help="leave the test part untouched")
    _add_folders(command)
    _add_guard(commands)
    _add_faithfulness(commands)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        return _COMMANDS.get(options.command, _run)(options)
    except (TrainingError, InferenceError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last finished epoch", file=sys.stderr)
        return 130


def _add_folders(command: argparse.ArgumentParser) -> None:
    """The arguments that all commands share."""
    command.add_argument("--data", type=Path, required=True, help="folder with manifest.csv or one folder a class")
    command.add_argument("--weights-dir", type=Path, help="folder of ImageNet weights and of artefacts to start from")
    command.add_argument("--out", type=Path, required=True, help="folder of the results and the split")
    command.add_argument("--state-dir", type=Path, default=Path("var/training"), help="folder of unfinished runs")
    command.add_argument(
        "--cache-dir", type=Path, default=Path("var/training/features"), help="folder of the frozen parts' outputs"
    )
    command.add_argument("--threads", type=int, default=2, help="threads of the numeric library")


def _add_guard(commands: Any) -> None:
    command = commands.add_parser(
        "guard", help="put a guard into an artefact, so that it can say that it does not know"
    )
    command.add_argument("--artefact", type=Path, required=True, metavar="FILE")
    command.add_argument("--data", type=Path, required=True, help="folder of the data set it was trained on")
    command.add_argument("--split", type=Path, metavar="FILE", help="default: NAME.split.csv beside the artefact")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new artefact")
    command.add_argument("--coverage", type=float, default=0.985, help="share of validation slices to be answered")
    command.add_argument("--test", action="store_true", help="measure on the test part too; logged")
    command.add_argument("--foreign", type=Path, nargs="+", default=[], metavar="DIR", help="pictures of other things")


def _add_faithfulness(commands: Any) -> None:
    command = commands.add_parser("faithfulness", help="measure whether a model's heatmaps tell the truth")
    command.add_argument("--artefact", type=Path, required=True, metavar="FILE")
    command.add_argument("--data", type=Path, required=True, help="folder with a manifest.csv that has tumour boxes")
    command.add_argument("--split", type=Path, metavar="FILE", help="default: NAME.split.csv beside the artefact")
    command.add_argument("--out", type=Path, required=True, help="folder of the results")
    command.add_argument("--part", choices=("validation", "test"), default="validation", help="test is logged")
    command.add_argument("--most", type=int, default=1000, metavar="N", help="most slices that are measured")
    command.add_argument("--into", type=Path, metavar="FILE", help="write the artefact with the result in its card")


def _faithfulness(options: argparse.Namespace) -> int:
    import cv2

    from training.faithfulness_report import report

    cv2.setNumThreads(1)
    found = report(
        options.artefact,
        options.data,
        options.out,
        split=options.split,
        part=options.part,
        most=options.most,
        into=options.into,
    )
    served = found["pointing"]["served"]
    print(f"{options.out}: peak in the box on {served['peak_in_box']:.1%} of {found['slices']} slices")
    return 0


def _guard(options: argparse.Namespace) -> int:
    import cv2

    from training.guard_report import add_guard

    cv2.setNumThreads(1)
    digest = add_guard(
        options.artefact,
        options.data,
        options.out,
        split=options.split,
        foreign=options.foreign,
        coverage=options.coverage,
        test=options.test,
    )
    print(f"{digest}  {options.out.name}")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    import cv2

    from training.scenario_files import load_scenarios
    from training.sweep import Places, chosen, sweep

    cv2.setNumThreads(1)
    file = load_scenarios(options.scenarios)
    # Each file has its own folder of states: two may name their scenarios alike.
    state_dir = options.state_dir / file.name
    places = Places(options.data, options.weights_dir, options.out, state_dir, options.cache_dir)
    failures = sweep(chosen(file.scenarios, options.only), places, options.threads, test=not options.no_test)
    print(f"{options.out / 'leaderboard.csv'}: {failures} runs failed")
    return 1 if failures else 0


def _run(options: argparse.Namespace) -> int:
    import cv2

    from inference import artefact
    from training.groups import fit
    from training.pipeline import gather
    from training.recorder import JsonLinesRecorder
    from training.scenario_files import load_scenario

    cv2.setNumThreads(1)  # the numeric library has the cores; pictures are small
    scenario = load_scenario(options.scenario)
    if options.start:
        scenario = replace(scenario, weights=f"sha256:{artefact.load(options.start).digest}")
    material = gather(scenario, options.data, options.out / f"{scenario.name}.split.csv")
    recorder = JsonLinesRecorder(options.state_dir / f"{scenario.name}.log.jsonl", scenario.name)
    folders = (options.weights_dir, options.cache_dir)
    starts = options.start.parent if options.start else None
    result = fit(scenario, material, options.state_dir, recorder, *folders, options.threads, models_dir=starts)
    if options.command == "run":
        from training.shipping import ship

        ship(scenario, material, result, options.out)
    return 0


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "sweep": _sweep,
    "guard": _guard,
    "faithfulness": _faithfulness,
}

if __name__ == "__main__":
    sys.exit(main())
