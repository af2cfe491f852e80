"""Registers a data set: reads it, checks it, keeps its bytes, writes its samples.

Owns the order that makes it safe to run twice: pictures go into the blob store first, samples are written in fenced
batches that begin anew with each attempt, and one last transaction makes the data set ready. Whatever is wrong with it
ends as a refusal with every problem, not as a failed attempt.

Refuses to trust a folder to hold still: the bytes that are kept must be those that were checked.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import structlog
from sqlalchemy.orm import Session

from db.queries import claims
from db.queries import datasets as rows
from db.queries.claims import Claim
from db.queries.datasets import Content
from training.datasets import Sample
from worker import dataset_checks as checks
from worker.context import Context
from worker.dataset_sources import Refused, Source, open_source, problem
from worker.lease import Lease

ROWS_A_TRANSACTION = 500
TOLD_EVERY_S = 1.0
_THREADS = 8

log = structlog.get_logger(__name__)


def run(context: Context, claim: Claim, lease: Lease) -> None:
    """Does a claimed registration from beginning to end.

    Raises:
        LeaseLost: Somebody else has it; nothing more was written.
        Fatal: The store lost a file that was sent.
        Exception: Whatever `worker.work` is to judge.
    """
    dataset_id = rows.dataset_of(claim)
    with context.database.read() as session:
        dataset = rows.to_register(session, dataset_id)
    if dataset is None:
        context.write(lease, lambda session: claims.finish(session, claim, note="gone"))
        return
    started = time.monotonic()
    teller = _Teller(context, claim, lease)
    with context.blobs.workspace() as workdir:
        try:
            source = open_source(context, dataset, workdir, lease.check)
            found = checks.read(source.root)
            steps = checks.PASSES * len(found.samples)
            _fenced(context, claim, lease, lambda session: rows.begin(session, dataset_id, steps=steps))
            as_they_are = bool(dataset.origin.get("labels_as_they_are"))
            checked = checks.check(found, context.decoders, teller.step, labels_as_they_are=as_they_are)
            teller.step(len(found.samples))
            _keep(context, checked, teller)
        except Refused as refused:
            problems = refused.problems
            context.write(lease, lambda session: rows.refuse(session, claim, dataset_id, problems))
            log.info("dataset_refused", dataset_id=str(dataset_id), codes=sorted({p["code"] for p in problems}))
            return
    samples = _rows_of(checked, source)
    for first in range(0, len(samples), ROWS_A_TRANSACTION):
        some = samples[first : first + ROWS_A_TRANSACTION]
        _fenced(
            context,
            claim,
            lease,
            lambda session, some=some, first=first: rows.add_samples(session, dataset_id, some, first=first),
        )
    content = Content(
        kind=source.kind,
        samples=samples,
        fingerprint=checked.fingerprint,
        counts=checks.counts(checked.dataset),
        leaks=checked.leaks.to_json(),
        remarks=checked.remarks,
    )
    context.write(lease, lambda session: rows.conclude(session, claim, dataset_id, content))
    seconds = round(time.monotonic() - started, 3)
    log.info("dataset_registered", dataset_id=str(dataset_id), slices=len(samples), seconds=seconds)


class _Teller:
    """Counts steps, in threads too, and now and then writes how many there were."""

    def __init__(self, context: Context, claim: Claim, lease: Lease) -> None:
        self._context, self._claim, self._lease = context, claim, lease
        self._lock = Lock()
        self._told = time.monotonic()

    def step(self, count: int = 1) -> None:
        """Some pictures were met. Raises LeaseLost or Stopping when the work must end."""
        self._lease.check()
        with self._lock:
            self._lease.progress += count
            if time.monotonic() - self._told < TOLD_EVERY_S:
                return
            self._told = time.monotonic()
        _fenced(self._context, self._claim, self._lease, lambda _session: None)


def _keep(context: Context, checked: checks.Checked, teller: _Teller) -> None:
    """Puts every picture into the blob store.

    Raises:
        Refused: The folder changed since it was checked.
        StoreFull: The disk is full.
    """

    def keep(sample: Sample, digest: str) -> bool:
        teller.step()
        try:
            with (checked.dataset.root / sample.file).open("rb") as file:
                return context.blobs.put(file)[0] == digest
        except FileNotFoundError:
            return False

    # Making a file durable is waiting for the disk: several waits at once take little longer than one.
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="store") as pool:
        kept = list(pool.map(keep, checked.dataset.samples, checked.digests))
    if not all(kept):
        raise Refused([problem("dataset_changed")])


def _rows_of(checked: checks.Checked, source: Source) -> list[dict[str, Any]]:
    """Values of `DatasetSample`, in the order of the data set."""
    groups = checked.leaks.groups.tolist()
    return [
        {
            "file": sample.file,
            "label": sample.label,
            "patient": sample.patient,
            "plane": sample.plane,
            "source": sample.source,
            "sha256": digest,
            "frame_index": 0,
            "group_number": group,
            "box": checked.boxes.get(sample.file),
            "instance_id": source.instances.get(sample.file),
        }
        for sample, digest, group in zip(checked.dataset.samples, checked.digests, groups, strict=True)
    ]


def _fenced(context: Context, claim: Claim, lease: Lease, change: Any) -> None:
    """One write transaction of this claim."""

    def fenced(session: Session) -> None:
        claims.hold(session, claim, lease_s=context.settings.lease_s, progress=lease.progress)
        change(session)

    context.write(lease, fenced)
