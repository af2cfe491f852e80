"""`python -m inference`: classify files and folders on this machine, without any server.

Owns: the command's arguments, its messages and its exit status. Refuses: to stop for a bad file, to send anything
anywhere. Research use only; not for diagnosis.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, TextIO

from config.settings import Settings, SettingsError, load_settings
from imaging.decoders import Decoders, DecodersUnavailable
from imaging.from_settings import decoders_from
from imaging.heatmaps import encode, overlay, place
from inference.engines import ENGINE_NAMES
from inference.errors import InferenceError
from inference.predictor import Prediction, Predictor, open_predictor
from inference.progress import Progress
from inference.results_csv import STDOUT, ResultsWriter, open_results
from inference.shipped import default_model
from inference.slices import Found, SliceSource, find, read, slices

EXIT_ALL_READ: Final = 0
EXIT_NOT_STARTED: Final = 2
EXIT_SOME_UNREADABLE: Final = 3
EXIT_INTERRUPTED: Final = 130

_NAMES_SHOWN: Final = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments without the program's name; None: those of the process.

    Returns:
        Exit status: 0 all read, 3 some not, 2 could not start or write, 130 interrupted.
    """
    arguments = _parser().parse_args(argv)
    try:
        settings = load_settings()
        return _run(arguments, settings)
    except (InferenceError, SettingsError, DecodersUnavailable) as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader of our output is gone; there is nobody to tell. What is left in the buffer must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NOT_STARTED
    except OSError as error:
        return _fail(f"cannot write {error.filename or 'the results'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("\nInterrupted: no results were written.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.overlay and arguments.heatmaps is None:
        return _fail("--overlay needs --heatmaps DIR, the folder to draw into")
    if arguments.heatmaps is not None:
        arguments.heatmaps.mkdir(parents=True, exist_ok=True)
    if arguments.model is None:
        model, digest = default_model(settings.models_dir)
    else:
        model, digest = arguments.model, None
    threads = settings.inference_threads
    with (
        # First of all: a table that cannot be written should fail before an hour of work, not after it.
        open_results(arguments.csv) as stream,
        tempfile.TemporaryDirectory(prefix="neurosight-") as workdir,
        decoders_from(settings) as decoders,
        open_predictor(model, digest, arguments.engine or settings.engine, threads) as predictor,
    ):
        found = find(arguments.paths, decoders.limits, Path(workdir))
        rows, failed = _classify(predictor, found, decoders, stream, arguments, Path(workdir))
    if not rows:
        print("There is no image at the given paths.", file=sys.stderr)
    return EXIT_ALL_READ if rows and not failed else EXIT_SOME_UNREADABLE


def _classify(
    predictor: Predictor, found: Found, decoders: Decoders, stream: TextIO, arguments: argparse.Namespace, workdir: Path
) -> tuple[int, int]:
    """Writes a row a slice; returns how many rows, and how many of them have an error."""
    writer = ResultsWriter(stream, predictor.manifest.class_names)
    failed = rows = 0
    with closing(Progress(len(found.files))) as progress:
        decode = partial(read, decoders=decoders, keep=arguments.heatmaps is not None)
        for source, result in predictor.predict_each(slices(found, decoders), decode):
            rows += 1
            writer.write(source.name, result)
            if isinstance(result, Prediction):
                if arguments.heatmaps is not None:
                    _draw(arguments.heatmaps, rows, source, result, with_overlay=arguments.overlay)
            else:
                failed += 1
            if source.last_of_file and source.local_path is not None and source.local_path.is_relative_to(workdir):
                source.local_path.unlink()  # a study's zip may unpack to more than the disk has to spare
            progress.step(file_done=source.last_of_file)
    _note_ignored(found)
    where = "standard output" if arguments.csv == STDOUT else arguments.csv
    print(
        f"{rows} rows, {rows - failed} classified, {failed} with an error -> {where} (model {predictor.digest[:12]}, "
        f"{predictor.engine.name} on {predictor.engine.device}). Research use only; not for diagnosis.",
        file=sys.stderr,
    )
    return rows, failed


def _draw(folder: Path, row: int, source: SliceSource, prediction: Prediction, *, with_overlay: bool) -> None:
    """Writes the pictures of one slice, named by row number and file name."""
    if source.pixels is None:
        return
    stem = f"{row:06d}-{_file_name(source.name)}"
    placed = place(prediction.heatmap, prediction.box, source.pixels.shape)
    (folder / f"{stem}.heatmap.png").write_bytes(encode(placed))
    if with_overlay:
        (folder / f"{stem}.overlay.png").write_bytes(overlay(source.pixels, placed))
    source.pixels = None


def _file_name(name: str) -> str:
    """The last part of a slice's name, in characters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._#-]+", "_", name.rsplit("/", 1)[-1])[-80:]


def _note_ignored(found: Found) -> None:
    if not found.ignored:
        return
    shown = ", ".join(found.ignored[:_NAMES_SHOWN])
    more = len(found.ignored) - _NAMES_SHOWN
    print(f"Ignored, no images by nature: {shown}{f' and {more} more' if more > 0 else ''}.", file=sys.stderr)


def _fail(message: str) -> int:
    print(f"python -m inference: {message}", file=sys.stderr)
    return EXIT_NOT_STARTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inference",
        description="Classify brain MRI slices on this machine, without any server. Research use only.",
        epilog="Exit status: 0 when all was read, 3 when some files were not (see the column `error`), 2 when the "
        "command could not start or write.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="DICOM, PNG, JPEG, TIFF, BMP, zip, or a folder of these"
    )
    parser.add_argument("--csv", required=True, metavar="FILE", help="table of results, one row a slice; - for stdout")
    parser.add_argument("--heatmaps", type=Path, metavar="DIR", help="write each slice's heatmap there as grey PNG")
    parser.add_argument(
        "--overlay", action="store_true", help="with --heatmaps: also the heatmap over the slice, in colour"
    )
    parser.add_argument("--model", type=Path, metavar="FILE", help="a .neurosight file; default: the shipped model")
    parser.add_argument("--engine", choices=ENGINE_NAMES, help="default: NEUROSIGHT_ENGINE, else auto")
    return parser


if __name__ == "__main__":
    # A closed terminal should clean up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
