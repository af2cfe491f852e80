"""The doctor: `make doctor` asks every part how it is, then sends a synthetic study through the whole system.

Owns the report and its exit status. The single checks stand in `ops.checks`; the round trip stands here. Refuses to
mend: it says how.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from client import Client, Refused, Unreachable, gather
from config.settings import Settings, SettingsError, load_settings
from db.states import Role
from ops import accounts, checks, launcher, local, phantom, ways_in
from ops.checks import Answer, Verdict, fail, ok, warn
from ops.console import table

SLICES = 3
POLL_S = 0.25
SLOW_S = 20.0
PNG_START = b"\x89PNG\r\n\x1a\n"

CHECKS: tuple[checks.Check, ...] = (
    checks.check_disk,
    checks.check_database,
    checks.check_broker,
    checks.check_blobs,
    checks.check_workers,
    checks.check_queues,
    ways_in.check_ways_in,
)


def run(*, timeout_s: float) -> int:
    """Prints the report; 1 when anything failed."""
    answers = examine(timeout_s)
    rows = [(str(answer.verdict), answer.name, answer.found) for answer in answers]
    for line, answer in zip(table(("", "what", "found"), rows), [None, None, *answers], strict=True):
        print(line)
        if answer is not None and answer.mend:
            print(f"        -> {answer.mend}")
    failed = sum(answer.verdict == Verdict.FAIL for answer in answers)
    warned = sum(answer.verdict == Verdict.WARN for answer in answers)
    print(f"{len(answers)} checks: {failed} failed, {warned} warnings")
    return 1 if failed else 0


def examine(timeout_s: float) -> list[Answer]:
    """Every check's answers, in order; later ones are left out when there is nothing to ask."""
    var_dir = local.var_folder()
    try:
        settings = load_settings(var_dir=var_dir)
    except SettingsError as error:
        return [
            fail("settings", str(error).replace("\n", " "), "correct it in var/neurosight.env or in the environment")
        ]
    answers = [ok("settings", f"are usable; state in {var_dir}")]
    for check in CHECKS:
        answers += check(settings)
    answers += check_web(settings)
    if answers[-1].name == "web" and answers[-1].verdict == Verdict.FAIL:
        return answers
    return answers + check_round_trip(settings, timeout_s)


def web_url(settings: Settings) -> str:
    """The running launcher's address, else the one of the settings."""
    running = local.running_launcher(settings.var_dir)
    if running is not None and running["url"]:
        return str(running["url"])
    host = "127.0.0.1" if settings.web_host in ("0.0.0.0", "::") else settings.web_host  # noqa: S104 - compared, not bound
    return f"http://{host}:{settings.web_port}"


def check_web(settings: Settings) -> list[Answer]:
    """The pages answer, and the system calls itself ready."""
    url = web_url(settings)
    ready, missing = launcher.readiness(url)
    if ready:
        return [ok("web", f"{url} answers"), ok("readiness", "a study sent now would be classified")]
    if missing == launcher.NO_ANSWER:
        return [fail("web", f"{url} does not answer", "start it with make up; see var/log/web.log")]
    return [ok("web", f"{url} answers"), fail("readiness", missing, "mend what the other lines name")]


def check_round_trip(settings: Settings, timeout_s: float) -> list[Answer]:
    """A synthetic study is received, opened, classified, explained and accounted for."""
    name = "round trip"
    started = time.monotonic()
    try:
        with (
            accounts.visitor(settings, "doctor", Role.SUBMITTER) as visitor,
            tempfile.TemporaryDirectory(prefix="neurosight-doctor-") as folder,
        ):
            study = Path(folder) / "phantom"
            study.mkdir()
            phantom.write(study, slices=SLICES)
            with Client(web_url(settings), visitor.token, patience_s=timeout_s) as client:
                sent = client.submit(gather([study]), title="doctor's phantom", priority="urgent")
                job = sent
                for job in client.follow(sent["id"], period_s=POLL_S):
                    if time.monotonic() - started > timeout_s and not job["ended"]:
                        found = f"is {job['state']} after {timeout_s:.0f} s"
                        return [fail(name, found, "see var/log/intake.log and var/log/classify.log")]
                return _judge(client, job, time.monotonic() - started)
    except (Refused, Unreachable) as error:
        return [fail(name, str(error), "see var/log/web.log")]
    except SQLAlchemyError as error:
        return [fail(name, f"no account could be made ({type(error).__name__})", "mend the database first")]


def _judge(client: Client, job: dict[str, Any], taken_s: float) -> list[Answer]:
    name = "round trip"
    if job["state"] != "succeeded":
        return [fail(name, f"the job ended as {job['state']}", "see its receipt on the page, and var/log/")]
    if len(job["studies"]) != 1:
        return [fail(name, f"made {len(job['studies'])} studies of one", "see var/log/intake.log")]
    results = client.study_results(job["studies"][0]["id"])
    found = [item["prediction"] for item in results["slices"] if item["prediction"]]
    problems = []
    if len(found) != SLICES:
        problems.append(f"{len(found)} predictions instead of {SLICES}")
    for prediction in found:
        total = sum(prediction["probabilities"].values())
        if abs(total - 1.0) > 1e-3:
            problems.append(f"probabilities add up to {total:.4f}")
        # A drawn head is no brain: a model with a guard may well decline to answer, and then has no heatmap.
        if not prediction["abstention"] and not client.get(prediction["links"]["heatmap"]).body.startswith(PNG_START):
            problems.append("a heatmap is no PNG")
    outcomes = client.receipt(job["id"])["outcomes"]
    if outcomes.get("accepted") != SLICES or sum(outcomes.values()) != SLICES + 1:
        problems.append(f"the receipt counts {outcomes}; expected {SLICES} accepted and 1 that is not an image")
    if problems:
        return [fail(name, "; ".join(problems), "this is a fault of the software or of its installation")]
    unanswered = sum(bool(prediction["abstention"]) for prediction in found)
    text = f"{SLICES} synthetic slices sent, classified, explained and accounted for in {taken_s:.1f} s"
    if unanswered:
        text += f" ({unanswered} without an answer, as it should be: a drawn head is no brain)"
    if taken_s > SLOW_S:
        return [warn(name, text, "the machine is busy, or other jobs are ahead")]
    return [ok(name, text)]
