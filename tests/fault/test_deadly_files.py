"""A file that crashes, hangs or overfills the library that reads it costs that file, not the worker."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from config.settings import Settings
from db.doorbell import Doorbell
from db.jobs import JobSlice, WorkItem
from db.session import Database
from db.states import JobState, SliceState
from db.studies import Instance
from tests import deadly_decoder as deadly
from tests.work_rig import picture, pictures, slice_counts, submit, wait_ended, wait_for
from tests.worker_fleet import DISPATCHER, Fleet

DEATHS = {
    "killed": (deadly.KILLED, "decoder_crashed", {"found": "SIGKILL"}),
    "segfault": (deadly.SEGFAULT, "decoder_crashed", {"found": "SIGSEGV"}),
    "hangs": (deadly.HANGS, "decoder_time", {"limit": 3.0}),
    "bomb": (deadly.BOMB, "decoder_memory", {"limit": 256 * 1024 * 1024}),
}


@pytest.mark.slow
def test_deadly_files_fail_alone_and_leave_nothing(
    work: Settings, database: Database, fleets: Callable[..., Fleet]
) -> None:
    settings = work.model_copy(update={"decode_memory_bytes": 256 * 1024 * 1024, "decode_wall_s": 3.0})
    fleet = fleets(settings, decoders="tests.deadly_decoder")
    fleet.start(DISPATCHER)
    fleet.start("intake")
    worker = fleet.start("classify")
    files = pictures(12)
    for name, (rows, _, _) in DEATHS.items():
        files[f"study/{name}.png"] = picture(70, rows)
    job_id = submit(database, settings, files, doorbell=Doorbell(settings))
    assert wait_ended(database, [job_id], 120) == [JobState.PARTIAL]
    assert slice_counts(database, job_id) == {"done": 12, "failed": 4}
    with database.read() as session:
        failed = session.execute(
            select(Instance.path, JobSlice.failure_code, JobSlice.failure_detail)
            .join(JobSlice, JobSlice.instance_id == Instance.id)
            .where(JobSlice.job_id == job_id, JobSlice.state == SliceState.FAILED)
        ).all()
        attempts = session.scalars(select(WorkItem.attempts).where(WorkItem.job_id == job_id)).all()
    assert {path: (code, detail) for path, code, detail in failed} == {
        f"study/{name}.png": (code, detail) for name, (_, code, detail) in DEATHS.items()
    }
    assert set(attempts) == {1}, "no worker was lost"

    pool = fleet.child(worker)
    below = descendants(pool)
    assert len(below) >= 2, "a host and its decoders"
    fleet.kill(worker)
    os.kill(pool, signal.SIGKILL)
    wait_for(lambda: not any(runs(pid) for pid in below), 5)


def descendants(pid: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found |= {child} | descendants(child)
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
