"""The last step of an item is done while the next one is worked on, and what happens to it stays that item's own."""

import sys
import threading
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select

from config.queues import QUEUE_REGISTRY, TASK_COMPARE
from config.settings import Settings
from db.jobs import WorkItem
from db.queries import claims
from db.queries.claims import Claim
from db.session import Database
from db.states import ItemState
from tests.work_rig import context_for
from worker import work
from worker.context import Context
from worker.lease import Lease
from worker.writer import LastStep

PATIENCE_S = 20.0


class Task:
    """A task whose items say in `order` what is done with them; `begins` and `writes` may hold them up or fail."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.begins: Callable[[str], None] = lambda name: None
        self.writes: Callable[[str], None] = lambda name: None

    def run(self, context: Context, claim: Claim, lease: Lease) -> LastStep:
        name = claim.arguments["name"]
        self.order.append(f"begin {name}")
        self.begins(name)

        def last_step() -> None:
            self.writes(name)
            context.write(lease, lambda session: claims.finish(session, claim))
            self.order.append(f"written {name}")

        return last_step


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    made = Task()
    module: Any = types.ModuleType("worker_task_of_a_test")
    module.run = made.run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(work, "MODULES", {TASK_COMPARE: module.__name__})
    return made


@pytest.fixture
def context(settings: Settings) -> Iterator[Context]:
    opened = context_for(settings.model_copy(update={"retry_delay_s": 60.0}), (QUEUE_REGISTRY,))
    yield opened
    opened.close()


def put(database: Database, *names: str, attempts: int = 0) -> None:
    """Commits items in this order."""
    for name in names:
        with database.write() as session:
            session.add(
                WorkItem(
                    task=TASK_COMPARE,
                    queue=QUEUE_REGISTRY,
                    priority_rank=0,
                    attempts=attempts,
                    max_attempts=5,
                    arguments={"name": name},
                )
            )


def states(database: Database) -> dict[str, tuple[str, str]]:
    with database.read() as session:
        return {item.arguments["name"]: (item.state, item.error_code) for item in session.scalars(select(WorkItem))}


def test_the_next_item_is_begun_while_the_last_one_is_written(task: Task, context: Context, database: Database) -> None:
    second_began, third_began = threading.Event(), threading.Event()
    task.begins = lambda name: {"b": second_began.set, "c": third_began.set}.get(name, lambda: None)()

    def writes(name: str) -> None:
        if name == "a":
            assert second_began.wait(PATIENCE_S), "the second item waits for the first one's commit"
            assert not third_began.wait(0.2), "two items' results are held back at once"

    task.writes = writes
    put(database, "a", "b", "c")
    assert work.turn(context) == 3
    assert states(database) == dict.fromkeys("abc", (ItemState.DONE, ""))
    assert task.order.index("written a") < task.order.index("begin c")
    assert task.order[-1] == "written c", "a turn ends when all is written"


def test_a_last_step_that_fails_is_its_own_items_failure(task: Task, context: Context, database: Database) -> None:
    def writes(name: str) -> None:
        if name == "a":
            raise ZeroDivisionError

    task.writes = writes
    put(database, "a", "b")
    assert work.turn(context) == 2
    assert states(database) == {"a": (ItemState.PENDING, "attempt_failed"), "b": (ItemState.DONE, "")}


def test_an_item_that_was_lost_before_is_done_alone(task: Task, context: Context, database: Database) -> None:
    put(database, "a")
    put(database, "suspect", attempts=1)
    put(database, "b")
    assert work.turn(context) == 3
    assert task.order == ["begin a", "written a", "begin suspect", "written suspect", "begin b", "written b"]


def test_the_lease_lasts_until_all_is_written(task: Task, context: Context, database: Database) -> None:
    held: list[uuid.UUID | None] = []

    def writes(_name: str) -> None:
        with database.read() as session:
            held.extend(session.scalars(select(WorkItem.lease_token).where(WorkItem.state == ItemState.RUNNING)))

    task.writes = writes
    put(database, "a")
    assert work.turn(context) == 1
    assert len(held) == 1
    assert held[0] is not None
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(("lease", "writer"))] == []
