"""The doorbell: tells workers that a committed work item waits.

Owns the only way in which web and housekeeping send a message. A message carries the id of a work item and means
"there is something to do"; the row is the truth, so a message may be lost, doubled or late without harm.

Refuses to raise and to wait: a broker that is down costs the caller about two seconds at most, the answer is False,
and housekeeping rings again later. Ring only after the commit.
"""

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.entity import Queue
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from config.queues import QUEUES
from config.settings import Settings
from db.clock import database_now
from db.jobs import WorkItem
from db.queries import claims
from db.session import Database
from db.states import ItemState

TIMEOUT_S = 2.0
PAUSE_AFTER_FAILURE_S = 2.0

_log = logging.getLogger(__name__)


class Doorbell:
    """Sends messages by task name; safe to use from several threads.

    Args:
        settings: Names the broker; without one, `ring` answers False.
    """

    def __init__(self, settings: Settings) -> None:
        self._app: Celery | None = None
        self._silent_until = 0.0
        self._lock = threading.Lock()
        if settings.broker_url:
            self._app = Celery("neurosight-doorbell", set_as_current=False)
            self._app.conf.update(
                broker_url=settings.broker_url,
                broker_connection_timeout=TIMEOUT_S,
                broker_transport_options={
                    **shared_transport_options(settings),
                    "socket_timeout": TIMEOUT_S,
                    "socket_connect_timeout": TIMEOUT_S,
                    # One try: whoever waits at the door is a person's HTTP request.
                    "max_retries": 0,
                    "connect_retries_timeout": TIMEOUT_S,
                },
                broker_connection_retry=False,
                task_queues=declared_queues(),
                task_create_missing_queues=False,
                task_publish_retry=False,
                task_serializer="json",
                accept_content=["json"],
                task_ignore_result=True,
                result_backend=None,
            )

    @property
    def transport_options(self) -> dict[str, Any]:
        """How it speaks with the broker; empty when there is none."""
        return dict(self._app.conf.broker_transport_options) if self._app is not None else {}

    def ring(self, task: str, queue: str, work_item_id: uuid.UUID) -> bool:
        """Sends one message.

        Args:
            task: A name of `config.queues.TASKS`.
            queue: A name of `config.queues.QUEUES`.
            work_item_id: The committed row.

        Returns:
            Whether the broker took it. After a failure, calls within the next two seconds answer False at once, so
            that a broker that hangs does not hold up every caller in turn.
        """
        return self.ring_all([(work_item_id, task, queue)]) == 1

    def ring_all(self, items: Sequence[tuple[uuid.UUID, str, str]]) -> int:
        """Sends a message for each (work item id, task, queue), in order, over one connection.

        Returns:
            How many the broker took, from the first on.
        """
        sent = 0
        if self._app is None or not items or time.monotonic() < self._silent_until:
            return sent
        try:
            # A connection for each call: it costs a millisecond or two, and none can be half open from before a fault.
            with self._app.connection_for_write() as connection:
                for item_id, task, queue in items:
                    self._app.send_task(
                        task,
                        kwargs={"work_item_id": str(item_id)},
                        queue=queue,
                        connection=connection,
                        ignore_result=True,
                        retry=False,
                    )
                    sent += 1
        except Exception as error:  # the edge to a library that raises whatever its transport raises
            self._fail("send", error)
        return sent

    def ring_committed(self, database: Database, item_ids: Sequence[uuid.UUID]) -> bool:
        """Rings for work items that were just committed, and records which messages the broker took.

        Never raises: what could not be sent or recorded here, housekeeping sends within seconds.

        Args:
            database: The store.
            item_ids: Ids of committed `WorkItem` rows. One message makes a worker do several items, so that for a
                job of many chunks the first few are enough.

        Returns:
            Whether the broker took every message.
        """
        if self._app is None or not item_ids:
            return not item_ids
        try:
            with database.read() as session:
                rows = session.execute(
                    select(WorkItem.id, WorkItem.task, WorkItem.queue)
                    .where(WorkItem.id.in_(item_ids), WorkItem.state == ItemState.PENDING)
                    .order_by(WorkItem.sequence)
                ).all()
            taken = self.ring_all([(row.id, row.task, row.queue) for row in rows])
            if taken:
                with database.write() as session:
                    claims.mark_sent(session, [row.id for row in rows[:taken]], database_now(session))
        except SQLAlchemyError as error:
            _log.warning("ring_not_recorded", extra={"error": type(error).__name__})
            return False
        return taken == len(rows)

    def waiting(self, queues: Sequence[str] = QUEUES) -> dict[str, int] | None:
        """How many messages each queue holds; None when the broker does not answer."""
        if self._app is None:
            return None
        try:
            with self._app.connection_for_write() as connection:
                return {queue: _length(connection, queue) for queue in queues}
        except Exception as error:  # as above
            self._fail("count", error)
            return None

    def close(self) -> None:
        """Closes the connections to the broker."""
        if self._app is not None:
            self._app.close()

    def _fail(self, what: str, error: Exception) -> None:
        with self._lock:
            self._silent_until = time.monotonic() + PAUSE_AFTER_FAILURE_S
        # The type only: the message of a connection error may hold the broker's URL with its password.
        _log.warning("broker_unavailable", extra={"during": what, "error": type(error).__name__})


def declared_queues() -> list[Queue]:
    """Every queue of the system, for `task_queues`."""
    return [Queue(name, routing_key=name) for name in QUEUES]  # type: ignore[no-untyped-call]


def shared_transport_options(settings: Settings) -> dict[str, Any]:
    """Transport options that must be the same in every process on one broker.

    The visibility timeout in particular: with several values on one broker, the shortest wins.
    """
    return {
        "visibility_timeout": settings.visibility_timeout_s,
        "global_keyprefix": settings.broker_keyprefix,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def _length(connection: Connection, queue: str) -> int:
    # Not by declaring the queue passively: kombu 5.7 asks EXISTS without the key prefix and always finds nothing.
    channel: Any = connection.default_channel
    return int(channel.client.llen(queue))
