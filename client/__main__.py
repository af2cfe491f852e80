"""`python -m client submit FOLDER --url URL`: send a study, wait for it, write its results.

Exit status: 0 every slice that was to be classified has its result; 2 wrong usage or nothing to send; 3 finished, but
some slices or files have no result; 4 the job failed or was cancelled; 5 the server refused; 6 the server could not be
reached; 130 interrupted.
"""

import argparse
import contextlib
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from client.api import Client, Refused, Unreachable
from client.console import Console, summary
from client.files import gather

OK, USAGE, PARTIAL, FAILED, REFUSED, UNREACHABLE, INTERRUPTED = 0, 2, 3, 4, 5, 6, 130
FINE = frozenset({"accepted", "duplicate", "ignored"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    wanted = _parser().parse_args(arguments)
    token = wanted.token or os.environ.get("NEUROSIGHT_TOKEN", "")
    url = wanted.url or os.environ.get("NEUROSIGHT_URL", "")
    console = Console()
    if not token or not url:
        console.say("error: say --url (or NEUROSIGHT_URL) and --token (better: NEUROSIGHT_TOKEN in the environment)")
        return USAGE
    try:
        context = ssl.create_default_context(cafile=wanted.ca_file) if wanted.ca_file else None
        with Client(url, token, patience_s=wanted.patience, context=context) as client:
            if wanted.command == "submit":
                return _submit(client, wanted, console)
            return _finish(client, wanted.job, wanted, console)
    except (FileNotFoundError, ValueError, OSError) as error:
        console.say(f"error: {error}")
        return USAGE
    except Refused as refused:
        console.say(f"error: {refused}")
        return REFUSED
    except Unreachable as error:
        console.say(f"error: {error}")
        return UNREACHABLE
    except KeyboardInterrupt:
        console.say("interrupted; what the server has accepted goes on there")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m client", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    submit = commands.add_parser("submit", help="send files, folders or zip archives", description=__doc__)
    submit.add_argument("paths", nargs="+", metavar="PATH", help="folder, zip archive or image")
    submit.add_argument("--title", default="", help="shown in lists; by default the folder's name")
    submit.add_argument("--priority", choices=["urgent", "normal", "off_peak"], default="normal")
    submit.add_argument("--no-wait", action="store_true", help="print the job's number and end")
    wait = commands.add_parser("wait", help="wait for a job that was sent before, and write its results")
    wait.add_argument("job", help="the job's number")
    for command in (submit, wait):
        command.add_argument("--url", default="", help="address of the server (or NEUROSIGHT_URL)")
        command.add_argument("--token", default="", help="API token (better: NEUROSIGHT_TOKEN in the environment)")
        command.add_argument("--out", type=Path, default=Path("results.csv"), help="where results go (results.csv)")
        command.add_argument("--ca-file", default="", help="certificate of the hospital's own authority (PEM)")
        command.add_argument(
            "--patience", type=float, default=300.0, help="seconds for which a broken connection is tried again (300)"
        )
    return parser


def _submit(client: Client, wanted: argparse.Namespace, console: Console) -> int:
    files = gather(wanted.paths)
    job = client.submit(files, title=wanted.title, priority=wanted.priority, on_progress=console.sending)
    console.say(f"received: job {job['id']}")
    if wanted.no_wait:
        print(job["id"])
        return OK
    return _finish(client, job["id"], wanted, console)


def _finish(client: Client, job_id: str, wanted: argparse.Namespace, console: Console) -> int:
    job: dict[str, Any] = {}
    for job in client.follow(job_id):
        console.following(job)
    _write(wanted.out, client.results_csv(job_id))
    studies = [client.study(study["id"]) for study in job["studies"]]
    print(summary(job, studies))
    print(f"  results: {wanted.out}")
    if job["state"] == "succeeded":
        return OK if set(job["files"]["outcomes"]) <= FINE else PARTIAL
    return PARTIAL if job["state"] == "partial" else FAILED


def _write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
