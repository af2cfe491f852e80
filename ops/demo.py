"""The demo: a real study through the real system, told in the terminal.

Owns the tour and its words. Everything runs as in daily use; the demo is one more user, with an account of this run
alone. Refuses to hide a failure: a slice without a result stands in the table with its reason.
"""

import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from client import Client, Refused, Unreachable, gather
from client.api import Sending
from config.settings import ROOT
from db.states import Role
from ops import accounts, launcher
from ops.console import Console, fraction_bar, table
from ops.local import Local
from ops.supervisor import Supervisor

DEFAULT_STUDY = ROOT / "examples" / "one" / "dicom"
JOB_TIMEOUT_S = 900.0
POLL_S = 0.4
BAR_WIDTH = 20
PATIENCE_S = 30.0
READY_TIMEOUT_S = 180.0
NOT_NEEDED = frozenset({"registry", "training", "transfer"})
"""The tour trains nothing, and starts sooner without these."""
NOTICE = "Research use only. Not for diagnosis or treatment decisions."

FINDINGS = {
    "tumour": "tumour class found",
    "uncertain": "uncertain: a tumour class is the likeliest somewhere, below the threshold",
    "no_tumour": "no tumour class on any slice",
    "incomplete": "incomplete: nothing found so far, and slices are missing",
    "none": "no slice was analysed",
}


Document = dict[str, Any]


class DemoFailed(Exception):
    """The tour could not be finished; the message says why."""


def run(*, once: bool, study: Path | None = None) -> int:
    """Starts the system, classifies a study and shows the results.

    Args:
        once: End everything after the results.
        study: A folder or file; by default one of the examples.

    Returns:
        Exit status: 0 when the study was classified.
    """
    chosen = (study or DEFAULT_STUDY).resolve()
    if not chosen.exists():
        print(f"neurosight: there is no {chosen}; expected a folder or a file with images.", file=sys.stderr)
        return 2
    print("NeuroSight demo. " + NOTICE, flush=True)

    def tour(state: Local, console: Console, supervisor: Supervisor) -> None:
        first = accounts.first_admin(state.settings)
        with accounts.visitor(state.settings, "demo", Role.CLINICIAN) as visitor:
            try:
                with Client(state.web_url, visitor.token, patience_s=PATIENCE_S) as client:
                    job = _classify(client, chosen, console, supervisor)
                    if job is None:
                        return  # told to stop meanwhile
                    _show(client, job, console)
            except (Refused, Unreachable, DemoFailed) as error:
                supervisor.stop(f"the demo failed: {error}", exit_status=1)
                return
            _say_where(state, job, visitor, first, console)
            if once:
                supervisor.stop("done")
                return
            console.plain("Everything stays up until you press Ctrl-C.")
            while not supervisor.stopping:
                time.sleep(POLL_S)

    return launcher.launch(tour, quiet=True, without=NOT_NEEDED, give_up_after_s=READY_TIMEOUT_S)


def _classify(client: Client, chosen: Path, console: Console, supervisor: Supervisor) -> Document | None:
    """Sends the study and follows its job to the end; None when the system was told to stop."""
    shown = chosen.relative_to(ROOT) if chosen.is_relative_to(ROOT) else chosen
    console.say(f"sending {shown}")

    def sent(state: Sending) -> None:
        console.bar(state.files_done, state.files, state.trouble or "files sent")

    job = client.submit(gather([chosen]), title=f"demo {chosen.parent.name}", priority="urgent", on_progress=sent)
    console.end_bar()
    deadline = time.monotonic() + JOB_TIMEOUT_S
    told = -1
    while not job["ended"]:
        if supervisor.stopping:
            return None
        if time.monotonic() > deadline:
            raise DemoFailed(f"the job did not end within {JOB_TIMEOUT_S:.0f} s; it is {job['state']}")
        slices = job["slices"]
        settled = slices["total"] - slices["pending"]
        if slices["total"]:
            left = job.get("seconds_left")
            console.bar(settled, slices["total"], "slices" + (f", about {left:.0f} s left" if left else ""))
            if not console.tty and settled * 4 // slices["total"] > told:
                told = settled * 4 // slices["total"]
                console.say(f"{settled} of {slices['total']} slices")
        else:
            waits_for = job.get("waits_for")
            console.bar(0, 1, waits_for["sentence"] if waits_for else "files are being opened")
        time.sleep(POLL_S)
        job = client.job(job["id"])
    console.end_bar()
    if job["state"] not in ("succeeded", "partial"):
        reason = job["failure"]["sentence"] if job["failure"] else "without a stated reason"
        raise DemoFailed(f"the job is {job['state']}: {reason}")
    console.say(f"{job['slices']['done']} of {job['slices']['total']} slices classified")
    return job


def _show(client: Client, job: Document, console: Console) -> None:
    for reference in job["studies"]:
        results = client.study_results(reference["id"])
        console.plain()
        console.plain(console.bold(f"Study {reference['title']}".rstrip()))
        for line in table(
            ("slice", "plane", "prediction", "probability", ""), rows(results["slices"]), right=frozenset({3})
        ):
            console.plain(line)
        console.plain()
        for line in summary_lines(results["summary"]):
            console.plain(line)
        model = results["model"]
        if model:
            console.plain(f"  model: {model['name']} ({model['network']}), digest {model['digest'][:16]}")
    receipt = client.receipt(job["id"])
    counts = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(receipt["outcomes"].items()))
    console.plain(f"  batch receipt: {receipt['total']} files: {counts}")


def rows(slices: list[dict[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """Lines of the table: name, plane, prediction, probability, bar; or the reason why there is no prediction."""
    lines = []
    for item in slices:
        name = Path(item["path"]).name + (f" #{item['frame'] + 1}" if item["frame"] else "")
        plane = item["plane"] or "-"
        found = item["prediction"]
        if found is None:
            reason = item["failure"]["sentence"] if item["failure"] else item["state"]
            lines.append((name, plane, f"none: {reason}", "", ""))
            continue
        if found["abstention"]:
            lines.append((name, plane, f"no answer: {found['abstention']}", "", ""))
            continue
        probability = found["probability"]
        lines.append((name, plane, found["class_name"], f"{probability:.3f}", fraction_bar(probability, BAR_WIDTH)))
    return lines


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """The study-level summary in words, with the rule by which it was made."""
    finding = FINDINGS.get(summary["finding"], summary["finding"])
    leading = summary["leading_class"]
    others = ", also " + ", ".join(summary["other_classes"]) if summary["other_classes"] else ""
    total = summary["analysed"] + summary["abstained"] + summary["failed"] + summary["waiting"]
    total += sum(summary["left_out"].values())
    lines = [f"  summary: {finding}" + (f" ({leading}{others})" if leading else "")]
    lines += [
        f"    {item['class_name']}: {item['slices']} slice(s), {item['firm_slices']} of them from the threshold on, "
        f"highest probability {item['peak_probability']:.3f}"
        for item in summary["support"]
    ]
    unanswered = f", {summary['abstained']} without an answer" if summary["abstained"] else ""
    lines.append(f"    analysed {summary['analysed']} of {total} slices{unanswered}")
    lines += textwrap.wrap(f"rule: {summary['rule']}", 98, initial_indent="  ", subsequent_indent="    ")
    return lines


def _say_where(
    state: Local, job: Document, visitor: accounts.Visitor, first: tuple[str, str] | None, console: Console
) -> None:
    console.plain()
    for reference in job["studies"]:
        console.plain(f"  results page: {console.bold(f'{state.web_url}/studies/' + reference['id'])}")
    console.plain(
        f"  log in as:    {console.bold(visitor.username)}, password {console.bold(visitor.password)} (this run only)"
    )
    if first is not None:
        console.plain(f"  first admin:  {first[0]}, one-time password {first[1]} (shown this once)")
    console.plain(f"  {NOTICE}")
    console.plain()
