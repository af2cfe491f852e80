"""Starts the whole system on one machine: `make up`, and the ground on which the demo stands.

Owns the order of a start: lock, folders and secrets, ports, database, services, readiness. Each step either mends what
an interrupted run left, or ends with one sentence that says what to do. Refuses to know what the demo does with it.
"""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import OperationalError

from config.settings import ROOT, SettingsError
from db.migrate import SchemaMismatch
from ops import local, ports
from ops.broker import BrokerUnavailable
from ops.console import Console
from ops.services import read_procfile, switched_off
from ops.supervisor import StartFailed, Supervisor

STILL_WAITING_S = 10.0
LONGEST_SILENCE_S = 300.0
PROBE_TIMEOUT_S = 5.0
TIDY_S = 10.0
NO_ANSWER = "web does not answer yet"

EXPECTED = (
    local.AlreadyRunning,
    ports.PortTaken,
    BrokerUnavailable,
    SchemaMismatch,
    SettingsError,
    StartFailed,
)
"""What can go wrong at a start and says by itself what to do."""

WhenReady = Callable[[local.Local, Console, Supervisor], None]
Probe = Callable[[local.Local], tuple[bool, str]]


def launch(
    when_ready: WhenReady,
    *,
    quiet: bool,
    procfile: Path | None = None,
    without: frozenset[str] = frozenset(),
    probe: Probe | None = None,
    before: Callable[[local.Local, Console], None] | None = None,
    give_up_after_s: float | None = None,
) -> int:
    """Starts everything, calls `when_ready` in a thread once the system answers, and returns when all has ended.

    Args:
        when_ready: Gets the state, the console and the supervisor; it may ask the supervisor to stop.
        quiet: Show only the services' warnings and errors.
        procfile: Another list of services than the repository's.
        without: Services that are not started.
        probe: Whether the system is ready, and what is missing; without one, the web is asked.
        before: Called once the database is migrated, before anything runs.
        give_up_after_s: End everything with status 1 when the system is not ready by then, seconds; None: keep waiting,
            and keep saying what for.

    Returns:
        Exit status.
    """
    var_dir = local.var_folder()
    with local.only_launcher(var_dir) as lock:
        state = local.prepare(var_dir)
        without |= switched_off(state.settings)
        commands = read_procfile(
            procfile or ROOT / "Procfile",
            without=without if state.embedded_broker else without | {"broker"},
        )
        console = Console(list(commands), quiet=quiet)
        for note in state.notes:
            console.say(note)
        try:
            if done := local.migrate_database(state.settings):
                console.say(done)
        except OperationalError as error:
            raise StartFailed(
                f"the database does not answer: {error.orig}; is NEUROSIGHT_DATABASE_URL right?"
            ) from None
        if not any(state.settings.models_dir.glob("*.neurosight")):
            console.say(
                f"there is no model (*.neurosight) in {state.settings.models_dir}: studies wait until one is there"
            )
        if before is not None:
            before(state, console)
        local.publish(var_dir, url=state.web_url)
        supervisor = Supervisor(
            commands,
            var_dir=var_dir,
            environment=state.environment,
            console=console,
            soft_shutdown_s=state.settings.soft_shutdown_s,
            lock=lock,
        )
        watcher = threading.Thread(
            target=_await_ready,
            args=(state, console, supervisor, when_ready, probe or _ask_web, give_up_after_s),
            name="readiness",
            daemon=True,
        )
        watcher.start()
        try:
            return supervisor.run()
        finally:
            watcher.join(timeout=TIDY_S)  # it ends the accounts that it made


def readiness(url: str) -> tuple[bool, str]:
    """Asks the web whether the whole system is ready.

    Returns:
        (ready, what is missing in a few words).
    """
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=PROBE_TIMEOUT_S) as answer:  # noqa: S310 - our own http URL
            answer.read()
        return True, ""
    except urllib.error.HTTPError as error:
        with error:
            return False, _missing(error.read())
    except (OSError, ValueError):
        return False, NO_ANSWER


def _ask_web(state: local.Local) -> tuple[bool, str]:
    return readiness(state.web_url)


def _missing(body: bytes) -> str:
    """The checks that failed, from the body of a 503 answer."""
    try:
        checks = json.loads(body)["checks"]
        failed = [
            f"{name}: {facts.get('detail') or 'not ready'}" if isinstance(facts, dict) else str(name)
            for name, facts in checks.items()
            if not (facts.get("ok") if isinstance(facts, dict) else facts in (True, "ok"))
        ]
    except (ValueError, KeyError, AttributeError, TypeError):
        return "web answers, but says it is not ready"
    return "; ".join(failed) or "web answers, but says it is not ready"


def _await_ready(
    state: local.Local,
    console: Console,
    supervisor: Supervisor,
    when_ready: WhenReady,
    probe: Probe,
    give_up_after_s: float | None,
) -> None:
    started = time.monotonic()
    silence_s = STILL_WAITING_S
    next_word = started + silence_s
    while not supervisor.stopping:
        ready, missing = probe(state)
        waited_s = time.monotonic() - started
        if ready:
            supervisor.was_ready = True
            console.say(f"ready after {waited_s:.1f} s")
            try:
                when_ready(state, console, supervisor)
            except Exception as error:  # the edge of this thread: nobody else would see it
                supervisor.stop(f"{type(error).__name__}: {error}", exit_status=1)
            return
        if time.monotonic() > next_word:
            silence_s = min(2 * silence_s, LONGEST_SILENCE_S)
            next_word = time.monotonic() + silence_s
            console.say(f"waiting since {waited_s:.0f} s for: {missing}")
        if give_up_after_s is not None and waited_s > give_up_after_s:
            folder = state.settings.var_dir / "log"
            supervisor.stop(f"not ready after {waited_s:.0f} s ({missing}); see {folder}", exit_status=1)
        time.sleep(0.3)
