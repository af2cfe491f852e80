"""What containers need beside the services themselves: preparation before, health meanwhile.

Owns the `prepare` step of `docker-compose.yml` and a worker's health by what the worker itself writes to the database:
that a process exists says little about whether it works. Refuses to start anything.
"""

import re
import socket
import sys

import fsspec
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from config.settings import load_settings
from db.queries.heartbeats import alive
from db.session import Database
from db.workers import WorkerHeartbeat
from ops import local


def prepare() -> int:
    """Migrates the database and makes the blob store's folder or bucket; safe to run again and at the same time."""
    settings = load_settings()
    try:
        print(local.migrate_database(settings) or "database is at the newest revision")
    except OperationalError as error:
        print(f"the database does not answer: {error.orig}", file=sys.stderr)
        return 1
    store, root = fsspec.core.url_to_fs(settings.resolved_blob_url)
    store.makedirs(root, exist_ok=True)
    print("blob store is ready")
    return 0


def worker_health() -> int:
    """0 when a worker process of this host wrote its heartbeat lately; else 1 and the reason."""
    settings = load_settings()
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:40]
    database = Database(settings.resolved_database_url)
    try:
        with database.read() as session:
            here = [worker for worker in alive(session, age_s=settings.worker_ready_age_s) if _is_on(worker, host)]
            if here:
                print(f"{len(here)} worker processes of {host} are alive")
                return 0
            last = session.scalars(select(WorkerHeartbeat).order_by(WorkerHeartbeat.seen_at.desc())).first()
        seen = f"; the last one of any host wrote at {last.seen_at.isoformat()}" if last else ""
        print(f"no worker of {host} wrote its heartbeat in the last {settings.worker_ready_age_s:g} s{seen}")
        return 1
    finally:
        database.close()


def _is_on(worker: WorkerHeartbeat, host: str) -> bool:
    place = worker.name.partition("@")[2]
    return place == host or place.startswith((f"{host}.", f"{host}#"))
