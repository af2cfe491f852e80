"""The states of everything that moves, and the legal ways between them, as data.

Owns the tables below; `check()` is the only judge. Refuses to change a row: queries do that, after asking here.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

S = TypeVar("S", bound=StrEnum)


class JobState(StrEnum):
    """What a submission is doing."""

    RECEIVED = "received"  # committed; its files wait to be opened
    OPENING = "opening"  # intake is reading its files
    CLASSIFYING = "classifying"  # slices wait or are being classified
    SUCCEEDED = "succeeded"  # every slice that was to be classified has its result
    PARTIAL = "partial"  # some slices have results, some failed
    FAILED = "failed"  # no result: nothing usable, or every slice failed
    CANCELLED = "cancelled"


class ItemState(StrEnum):
    """What a claimable piece of work is doing."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"  # attempts used up, or a fatal error
    CANCELLED = "cancelled"


class SliceState(StrEnum):
    """What one slice of a job is doing."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LEFT_OUT = "left_out"  # not to be classified: its plane, or its series, by rule or choice


class UploadState(StrEnum):
    """What an upload of several requests is doing."""

    RECEIVING = "receiving"
    COMPLETED = "completed"
    ABANDONED = "abandoned"


class SweepState(StrEnum):
    """What a sweep is doing."""

    PLANNING = "planning"  # committed; a worker reads its scenarios
    REFUSED = "refused"  # the scenarios or the data set have mistakes
    RUNNING = "running"  # runs wait or are being trained
    PAUSED = "paused"
    FINISHED = "finished"  # every run has ended, one way or another
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """What one run is doing."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"  # trained and reported
    FAILED = "failed"
    CANCELLED = "cancelled"


class DatasetState(StrEnum):
    """What a registered data set is doing."""

    REGISTERING = "registering"
    READY = "ready"
    REFUSED = "refused"


class RequestState(StrEnum):
    """How far something is that somebody asked for."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class IllegalTransition(Exception):
    """A change of state that the tables below do not allow."""


_J, _I, _S, _U = JobState, ItemState, SliceState, UploadState
_W, _R, _D, _Q = SweepState, RunState, DatasetState, RequestState

TRANSITIONS: Mapping[type[StrEnum], Mapping[Any, frozenset[Any]]] = {
    JobState: {
        _J.RECEIVED: frozenset({_J.OPENING, _J.CANCELLED, _J.FAILED}),
        _J.OPENING: frozenset({_J.CLASSIFYING, _J.SUCCEEDED, _J.PARTIAL, _J.FAILED, _J.CANCELLED}),
        _J.CLASSIFYING: frozenset({_J.SUCCEEDED, _J.PARTIAL, _J.FAILED, _J.CANCELLED}),
        _J.SUCCEEDED: frozenset(),
        _J.PARTIAL: frozenset({_J.CLASSIFYING}),  # failed slices retried
        _J.FAILED: frozenset({_J.CLASSIFYING, _J.RECEIVED}),  # retried
        _J.CANCELLED: frozenset({_J.CLASSIFYING, _J.RECEIVED}),  # resumed
    },
    ItemState: {
        _I.PENDING: frozenset({_I.RUNNING, _I.CANCELLED, _I.DEAD}),
        _I.RUNNING: frozenset({_I.DONE, _I.PENDING, _I.DEAD, _I.CANCELLED}),
        _I.DONE: frozenset(),
        _I.DEAD: frozenset({_I.PENDING}),
        _I.CANCELLED: frozenset({_I.PENDING}),
    },
    SliceState: {
        _S.PENDING: frozenset({_S.DONE, _S.FAILED, _S.CANCELLED, _S.LEFT_OUT}),
        _S.DONE: frozenset(),
        _S.FAILED: frozenset({_S.PENDING}),
        _S.CANCELLED: frozenset({_S.PENDING}),
        _S.LEFT_OUT: frozenset(),  # who wants it after all asks by a job of its own
    },
    UploadState: {
        _U.RECEIVING: frozenset({_U.COMPLETED, _U.ABANDONED}),
        _U.COMPLETED: frozenset(),
        _U.ABANDONED: frozenset(),
    },
    SweepState: {
        _W.PLANNING: frozenset({_W.RUNNING, _W.REFUSED, _W.CANCELLED}),
        _W.REFUSED: frozenset(),
        _W.RUNNING: frozenset({_W.PAUSED, _W.FINISHED, _W.CANCELLED}),
        _W.PAUSED: frozenset({_W.RUNNING, _W.CANCELLED}),
        _W.FINISHED: frozenset({_W.RUNNING}),  # a run is tried again
        _W.CANCELLED: frozenset({_W.RUNNING, _W.PLANNING}),  # resumed; without runs it is planned anew
    },
    RunState: {
        _R.PENDING: frozenset({_R.RUNNING, _R.PAUSED, _R.FAILED, _R.CANCELLED}),
        _R.RUNNING: frozenset({_R.PENDING, _R.FINISHED, _R.FAILED, _R.PAUSED, _R.CANCELLED}),
        _R.PAUSED: frozenset({_R.PENDING, _R.CANCELLED}),
        _R.FINISHED: frozenset(),
        _R.FAILED: frozenset({_R.PENDING}),
        _R.CANCELLED: frozenset({_R.PENDING}),
    },
    DatasetState: {
        _D.REGISTERING: frozenset({_D.READY, _D.REFUSED}),
        _D.READY: frozenset(),
        _D.REFUSED: frozenset({_D.REGISTERING}),
    },
    RequestState: {
        _Q.PENDING: frozenset({_Q.DONE, _Q.FAILED}),
        _Q.DONE: frozenset(),
        _Q.FAILED: frozenset({_Q.PENDING}),
    },
}

JOB_ENDED = frozenset({JobState.SUCCEEDED, JobState.PARTIAL, JobState.FAILED, JobState.CANCELLED})
SWEEP_ENDED = frozenset({SweepState.REFUSED, SweepState.FINISHED, SweepState.CANCELLED})
RUN_ENDED = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CANCELLED})
ITEM_OPEN = frozenset({ItemState.PENDING, ItemState.RUNNING})


class Priority(StrEnum):
    """How urgent a job is."""

    URGENT = "urgent"
    NORMAL = "normal"
    OFF_PEAK = "off_peak"

    @property
    def rank(self) -> int:
        """0 is served first."""
        return list(Priority).index(self)


class Purpose(StrEnum):
    """Why a job classifies slices."""

    SUBMISSION = "submission"
    RECLASSIFICATION = "reclassification"  # slices of the store again, under another checkpoint
    SELECTION = "selection"  # further slices of a study, because somebody asked for them
    SHADOW = "shadow"  # slices of the store under a candidate, and the results are kept apart from those that are shown


class Role(StrEnum):
    """What a user may do; each role may do all that the one before it may."""

    SUBMITTER = "submitter"
    CLINICIAN = "clinician"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what `other` may."""
        roles = list(Role)
        return roles.index(self) >= roles.index(other)


def check(before: S, after: S) -> S:
    """Returns `after` when it may follow `before`.

    Raises:
        IllegalTransition: When it may not; the message names both and what is allowed.
    """
    allowed = TRANSITIONS[type(before)][before]
    if after not in allowed:
        names = ", ".join(sorted(state.value for state in allowed)) or "nothing"
        raise IllegalTransition(
            f"{type(before).__name__}: received {before.value} -> {after.value}; "
            f"after {before.value} may follow: {names}"
        )
    return after
