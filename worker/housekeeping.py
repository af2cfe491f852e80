"""Housekeeping: what makes the promises hold when a message, a worker or a browser is lost.

Owns one round of it, in steps that fail one by one: the others are still done when the broker or a file is away. Each
step is idempotent and may run in several processes at once.

Refuses to work on studies itself: it only makes sure that somebody does.
"""

import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from config.queues import QUEUES
from config.settings import Settings
from db import retention
from db.base import utc_now
from db.blobs import BlobStore
from db.doorbell import Doorbell
from db.queries import (
    accounts,
    checkpoints,
    claims,
    datasets,
    heartbeats,
    housekeeping,
    imports,
    receptions,
    retrievals,
    standings,
)
from db.session import Database
from worker import registering
from worker.faults import place_of
from worker.processes import is_known_dead

SLOW_ROUND_S = 60.0
"""How often expired and old things are looked for."""
MODELS_ROUND_S = 5.0
FORGET_WORKERS_S = 600.0
SWEEP_UNUSED_S = 3600.0
"""A blob stored within this time may be about to be named by a row."""
FORGET_ITEMS_S = 30 * 24 * 3600.0
IMPORTS_LOOKED_AT = timedelta(days=2)
"""So long after its end an imported file that became no checkpoint is looked for."""

log = structlog.get_logger(__name__)


@dataclass
class _Due:
    """When a step that is not done in every round is due again."""

    period_s: float
    at: float = field(default=0.0)

    def now(self) -> bool:
        if time.monotonic() < self.at:
            return False
        self.at = time.monotonic() + self.period_s
        return True


class Housekeeper:
    """Does rounds; use as a context manager.

    Args:
        settings: Periods, ages, folders.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.resolved_database_url)
        self._blobs = BlobStore(settings.resolved_blob_url)
        self._doorbell = Doorbell(settings)
        self._slow = _Due(SLOW_ROUND_S)
        self._models = _Due(MODELS_ROUND_S)
        self._seen: dict[Path, tuple[int, int]] = {}
        self._complaint: tuple[str, str] | None = None

    def __enter__(self) -> Self:
        """The housekeeper itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes its connections."""
        self._doorbell.close()
        self._database.close()

    def round(self) -> bool:
        """Does every step that is due; returns whether all of them worked."""
        steps: list[Callable[[], None]] = []
        if self._models.now():
            steps.append(self.register_models)
        steps += [self.take_back, self.complete_studies, self.ring, self.refresh_standings]
        if self._slow.now():
            steps += [self.sweep, self.erase]
        # All are tried, also after one has failed.
        results = [self._try(step) for step in steps]
        return all(results)

    def take_back(self) -> None:
        """Ends the leases of dead processes of this machine, and settles every item whose lease ran out."""
        with self._database.read() as session:
            dead = [name for name in claims.running_workers(session) if is_known_dead(name)]
        with self._database.write() as session:
            if dead:
                claims.expire_leases_of(session, dead)
            settled = housekeeping.settle_lost(session, self._settings)
        if settled.returned or settled.divided or settled.dead:
            log.warning("lost_work_settled", returned=settled.returned, divided=settled.divided, given_up=settled.dead)

    def complete_studies(self) -> None:
        """Makes jobs of studies that arrived over the network and were quiet for long enough."""
        with self._database.read() as session:
            if not receptions.arriving(session):
                return
        with self._database.write() as session:
            job_ids = receptions.complete_quiet(session, self._settings)
        for job_id in job_ids:
            log.info("study_received", job_id=str(job_id))

    def ring(self) -> None:
        """Sends the messages of committed items that were never sent, or whose message must be lost."""
        lengths = self._doorbell.waiting()
        if lengths is None:
            return  # without a broker nothing can be sent; the items keep their mark "not sent"
        quiet = [queue for queue in QUEUES if lengths.get(queue, 0) == 0]
        with self._database.read() as session:
            if not claims.anything_waits(session, QUEUES):
                return
        with self._database.write() as session:
            items = claims.unsent(session, resend_after_s=self._settings.resend_after_s, quiet_queues=quiet)
        sent = self._doorbell.ring_all(items)
        if sent < len(items):
            with self._database.write() as session:
                claims.mark_sent(session, [item[0] for item in items[sent:]], None)
        if sent:
            log.info("rung", messages=sent)

    def refresh_standings(self) -> None:
        """Computes where studies stand of which something changed that touched too many of them at once."""
        with self._database.read() as session:
            if not standings.any_stale(session):
                return
        with self._database.write() as session:
            standings.refresh_stale(session)

    def register_models(self) -> None:
        """Registers the artefacts of the models folder; promotes the default one if nothing was ever promoted.

        The bytes go into the blob store under their digest: a checkpoint stays servable, and its results reproducible,
        when the file in the folder is replaced by a newer one, and on machines that have no such folder. A file is read
        again only when its size or time changed. One that is no artefact is reported once.
        """
        folder = self._settings.models_dir
        paths = sorted(folder.glob("*.neurosight")) if folder.is_dir() else []
        for path in paths:
            status = path.stat()
            mark = (status.st_size, status.st_mtime_ns)
            if self._seen.get(path) == mark:
                continue
            if self._register(path):
                self._seen[path] = mark
        self._promote_default()

    def sweep(self) -> None:
        """Removes expired uploads, files left behind, old traces; ends jobs that nothing would end."""
        settings = self._settings
        with self._database.write() as session:
            digests = housekeeping.expire_uploads(session)
            digests += datasets.forget_files(session, older_than_s=SWEEP_UNUSED_S)
            settled = imports.settled_blobs(session, since=utc_now() - IMPORTS_LOOKED_AT)
        with self._database.read() as session:
            unnamed = housekeeping.unnamed(session, [*digests, *settled])
        blobs = sum(self._blobs.sweep(digest, unused_for_s=SWEEP_UNUSED_S, now=time.time()) for digest in unnamed)
        with self._database.write() as session:
            workers = heartbeats.forget_older_than(session, FORGET_WORKERS_S)
            failures = housekeeping.forget_login_failures(session, max(86_400.0, 2.0 * settings.login_pause_s))
            accounts.forget_old_sessions(session, settings.session_absolute_s)
            stragglers = housekeeping.settle_stragglers(session)
            retrievals.forget_numbers(session)
            items = housekeeping.forget_finished_items(session, FORGET_ITEMS_S)
        spooled = self._blobs.sweep_spool(settings.upload_expiry_s, time.time())
        states = self._forget_states()
        if digests or workers or stragglers or spooled or items or states:
            log.info(
                "swept",
                upload_files=len(digests),
                blobs=blobs,
                workers=workers,
                login_failures=failures,
                jobs_ended=stragglers,
                spooled=spooled,
                items=items,
                training_states=states,
            )

    def erase(self) -> None:
        """Deletes studies older than the settings allow, and bytes that nothing names since a deletion."""
        retention.forget_originals(self._database, deidentify=self._settings.deidentify)
        gone = retention.retain(self._database, self._settings.retention_days)
        blobs = retention.remove_bytes(self._database, self._blobs)
        copies = retention.remove_copies(self._settings.var_dir / "backups", self._settings.retention_days)
        if gone or blobs or copies:
            log.info("erased", studies_and_jobs=gone, blobs=blobs, copies=copies)

    def _forget_states(self) -> int:
        """Removes the states of sweeps that ended long ago, returns of how many; and artefacts unused for as long."""
        keep_s = self._settings.training_keep_days * 86_400
        for path in (self._settings.training_dir / "artefacts").glob("*"):
            if time.time() - path.stat().st_mtime > keep_s:
                path.unlink(missing_ok=True)
        folder = self._settings.training_dir / "sweeps"
        found = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            try:
                found[uuid.UUID(path.name)] = path
            except ValueError:
                continue  # not ours
        if not found:
            return 0
        with self._database.read() as session:
            old = housekeeping.forgettable_sweeps(session, list(found), keep_s)
        for sweep_id in old:
            shutil.rmtree(found[sweep_id], ignore_errors=True)
        return len(old)

    def _register(self, path: Path) -> bool:
        """Registers one file; returns whether its present content is dealt with."""
        from inference.errors import ArtefactError

        try:
            facts = registering.keep(path, path.stem, self._blobs)
        except ArtefactError as error:
            log.error("artefact_refused", artefact=path.name, error=type(error).__name__)
            return True
        except registering.ChangedWhileRead:
            log.warning("artefact_changed_while_read", artefact=path.name)
            return False
        with self._database.write() as session:
            new = facts.digest not in checkpoints.known_digests(session)
            checkpoints.register(session, facts)
        if new:
            log.info("checkpoint_registered", digest=facts.digest, artefact=path.name)
        return True

    def _promote_default(self) -> None:
        with self._database.read() as session:
            if checkpoints.serving(session) is not None:
                return
        from inference.errors import ArtefactError
        from inference.shipped import default_model

        try:
            digest = default_model(self._settings.models_dir).digest
        except ArtefactError as error:
            self._complain("no_default_model", type(error).__name__)
            return
        try:
            with self._database.write() as session:
                if checkpoints.serving(session) is None:
                    checkpoints.promote(session, digest, by=None, reason="default model of this installation")
        except checkpoints.UnknownCheckpoint:
            self._complain("default_model_not_registered", digest)
            return
        log.info("checkpoint_promoted", digest=digest)

    def _complain(self, event: str, about: str) -> None:
        """Logs a lasting fault once, not in every round."""
        if (event, about) != self._complaint:
            log.error(event, about=about)
            self._complaint = (event, about)

    def _try(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except Exception as error:  # one step must not keep the others from being done
            log.error("step_failed", step=step.__name__, error=type(error).__name__, place=place_of(error))
            return False
        return True
