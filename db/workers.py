"""What each worker process last said of itself.

Owns the heartbeat by which readiness is judged: a process that runs but does not claim is not ready.
"""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, utc_now


class WorkerHeartbeat(Base):
    """One worker process."""

    __tablename__ = "worker_heartbeat"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    queues: Mapped[list[Any]]
    engine: Mapped[str] = mapped_column(String(64), default="")
    checkpoint_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("checkpoint.id", ondelete="SET NULL"))
    """The checkpoint it has loaded, for a classify worker."""
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    seen_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Resident memory, slices done, seconds per slice."""
