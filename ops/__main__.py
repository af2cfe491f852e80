"""The command line of `python -m ops`: up, demo, doctor and their smaller relatives.

Owns arguments and exit statuses. An expected failure is one sentence on standard error and status 1; a traceback means
a fault of ours.
"""

import argparse
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from ops import launcher


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    whole = argparse.ArgumentParser(prog="python -m ops", description="NeuroSight on one machine. Research use only.")
    commands = whole.add_subparsers(dest="command", required=True)

    up = commands.add_parser("up", help="start broker, workers and web; stop with Ctrl-C")
    up.add_argument("--quiet", action="store_true", help="show only warnings and errors of the services")
    up.add_argument("--procfile", type=Path, help="another list of services")

    demo = commands.add_parser("demo", help="classify a real study and show the results")
    demo.add_argument("--once", action="store_true", help="stop everything after the results and exit with status 0")
    demo.add_argument("--study", type=Path, help="a folder or file to classify (default: one of examples/)")

    doctor = commands.add_parser("doctor", help="push a synthetic study through the running system")
    doctor.add_argument("--timeout", type=float, default=60.0, metavar="S", help="for the round trip, seconds")

    sweep = commands.add_parser("sweep", help="train a set of scenarios and show the leaderboard")
    what = sweep.add_mutually_exclusive_group(required=True)
    what.add_argument("--scenarios", metavar="FILE", help="a name in config/scenarios, or a path")
    what.add_argument("--follow", type=uuid.UUID, metavar="ID", help="show a sweep that is there already")
    sweep.add_argument("--dataset", metavar="NAME", default="", help="a registered data set")
    sweep.add_argument("--name", default="", help="what to call the sweep")

    dataset = commands.add_parser("dataset", help="register a folder of labelled pictures for training")
    dataset.add_argument("name", metavar="NAME", help="what to call the data set")
    dataset.add_argument("folder", metavar="FOLDER", type=Path, help="holds manifest.csv or one folder for each class")
    dataset.add_argument(
        "--labels-as-they-are", action="store_true", help="labels that look like a known class misspelt are meant so"
    )

    settings = commands.add_parser("settings", help="list every setting")
    settings.add_argument("--write", action="store_true", help="write docs/settings.md")

    retention = commands.add_parser("retention", help="count studies older than N days; delete them for good")
    retention.add_argument("--days", type=int, metavar="N", help="default: NEUROSIGHT_RETENTION_DAYS")
    retention.add_argument("--delete", action="store_true", help="delete them; without it nothing is changed")

    audit = commands.add_parser("audit", help="verify the chain of the audit trail")
    audit.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="NUMBER:SHA256",
        help="an end of the chain that was kept elsewhere",
    )
    commands.add_parser("standings", help="compute anew where every study stands")

    commands.add_parser("prepare", help="containers: migrate the database and make the blob store's bucket")
    commands.add_parser("worker-health", help="containers: 0 when the worker on this host lives")

    clean = commands.add_parser("clean-state", help="delete all local state under var/")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    wanted = parser().parse_args(arguments)
    try:
        return _run(wanted)
    except launcher.EXPECTED as error:
        print(f"neurosight: {error}.", file=sys.stderr)
        return 1


def _run(wanted: argparse.Namespace) -> int:
    # Imported where needed: the doctor of a half-broken system must not need what the launcher needs.
    if wanted.command == "up":
        from ops import daily

        return daily.up(quiet=wanted.quiet, procfile=wanted.procfile)
    if wanted.command == "demo":
        from ops import demo

        return demo.run(once=wanted.once, study=wanted.study)
    if wanted.command == "doctor":
        from ops import doctor

        return doctor.run(timeout_s=wanted.timeout)
    if wanted.command == "sweep":
        from ops import sweep

        wish = sweep.Wish(wanted.scenarios or "", wanted.dataset, wanted.name, wanted.follow)
        return sweep.run(wish)
    if wanted.command == "dataset":
        from ops import dataset

        return dataset.run(wanted.name, wanted.folder, labels_as_they_are=wanted.labels_as_they_are)
    if wanted.command == "retention":
        from config.settings import load_settings
        from ops import retention

        return retention.run(load_settings(), days=wanted.days, delete=wanted.delete)
    if wanted.command == "settings":
        from ops import settings_page

        return settings_page.run(write=wanted.write)
    if wanted.command == "audit":
        from config.settings import load_settings
        from ops import audit

        return audit.run(load_settings(), expected=wanted.expect)
    if wanted.command == "standings":
        from config.settings import load_settings
        from ops import standings

        return standings.run(load_settings())
    if wanted.command in {"prepare", "worker-health"}:
        from ops import containers

        return containers.prepare() if wanted.command == "prepare" else containers.worker_health()
    from ops import clean

    return clean.run(ask=not wanted.yes)


if __name__ == "__main__":
    raise SystemExit(main())
