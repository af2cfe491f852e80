"""What a run tells while it is trained, written to the database.

Owns the recorder of one run of a claimed group (`training.recorder.Recorder`): each report is one fenced transaction
that also renews the lease. Refuses to go on when the claim is lost: what it raises then ends the training of the group.
"""

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog

from db.queries import training as rows
from db.queries.claims import Claim, LeaseLost
from worker.context import Context
from worker.lease import Lease, Stopping

log = structlog.get_logger(__name__)


class DatabaseRecorder:
    """The recorder of one run.

    Args:
        context: This worker.
        claim: The group's work item.
        lease: Of the claim.
        run_id: The run.
    """

    def __init__(self, context: Context, claim: Claim, lease: Lease, run_id: uuid.UUID) -> None:
        self._context, self._claim, self._lease, self._run_id = context, claim, lease, run_id
        self._lease_s = context.settings.lease_s
        self._between_epochs = True

    def started(self, scenario: Mapping[str, Any], epochs: int, first_epoch: int) -> None:
        """The run starts, or goes on from `first_epoch`."""
        begin = partial(
            rows.begin_run, claim=self._claim, run_id=self._run_id, first_epoch=first_epoch, lease_s=self._lease_s
        )
        self._context.write(self._lease, begin)
        log.info("run_started", run_id=str(self._run_id), first_epoch=first_epoch, epochs=epochs)

    def epoch_finished(self, epoch: int, facts: Mapping[str, float]) -> None:
        """An epoch ended and its state is on disk."""
        record = partial(
            rows.record_epoch, claim=self._claim, run_id=self._run_id, epoch=epoch, facts=facts, lease_s=self._lease_s
        )
        self._context.write(self._lease, record)
        self._lease.progress += 1
        self._between_epochs = True
        log.info("epoch_finished", run_id=str(self._run_id), epoch=epoch, seconds=round(facts.get("epoch_s", 0.0), 3))

    def finished(self, facts: Mapping[str, Any]) -> None:
        """The run is trained. It is not finished before its report is there: see `worker.train`."""
        log.info("run_trained", run_id=str(self._run_id), epochs=facts.get("epochs"))

    def failed(self, code: str, detail: str) -> None:
        """The run failed alone."""
        fail = partial(
            rows.fail_run,
            claim=self._claim,
            run_id=self._run_id,
            code=code,
            detail={"text": detail},
            lease_s=self._lease_s,
        )
        self._context.write(self._lease, fail)
        log.warning("run_failed", run_id=str(self._run_id), code=code)

    def should_stop(self) -> bool:
        """Whether the claim is lost, or this process has to end: rather between two epochs than within one."""
        between, self._between_epochs = self._between_epochs, False
        if between and self._lease.winding_down:
            return True
        try:
            self._lease.check()
        except (LeaseLost, Stopping):
            return True
        return False
