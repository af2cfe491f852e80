"""An application with people and studies, for tests of the web.

Owns accounts with tokens, requests in somebody's name, and doing the workers' part in this process, with the real
engine and the tiny model. Everything gets in by the API, as in life.
"""

import io
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from config.queues import QUEUES
from config.settings import Settings
from db.queries import accounts
from db.queries.audit import SYSTEM
from db.session import Database
from db.states import Role
from db.users import AuditEvent
from tests.work_rig import context_for, pictures
from web.services import services
from worker.work import turn

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Person:
    """Somebody with an account."""

    id: uuid.UUID
    username: str
    role: Role
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """His token."""
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class World:
    """The application and who uses it."""

    app: Flask
    settings: Settings
    people: dict[str, Person] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        """Its database."""
        return services(self.app).database

    def client(self) -> FlaskClient:
        """A browser or program of its own."""
        return self.app.test_client()

    def add(self, username: str, role: Role) -> Person:
        """A new account with a token."""
        with self.database.write() as db:
            user = accounts.create_user(db, username, PASSWORD, role, by=SYSTEM)
            _, token = accounts.create_token(db, user, "test", by=SYSTEM, expires_at=None)
        person = Person(user.id, username, role, token)
        self.people[username] = person
        return person

    def ask(self, who: Person | None, method: str, address: str, **more: Any) -> TestResponse:
        """One request in somebody's name; None: nobody's."""
        headers = {**(who.headers if who else {}), **more.pop("headers", {})}
        answer = self.client().open(address, method=method, headers=headers, **more)
        answer.request.environ["wsgi.input"].close()  # a large form lies in a temporary file
        return answer

    def send(self, who: Person, files: Mapping[str, bytes] | None = None, **fields: str) -> dict[str, Any]:
        """Submits files in one request; returns the job."""
        files = pictures(3, folder=who.username) if files is None else files
        form: dict[str, Any] = {**fields, "files": [(io.BytesIO(data), name) for name, data in files.items()]}
        answer = self.ask(who, "POST", "/api/v1/studies", data=form)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json or {}
        return job

    def work(self) -> None:
        """Does everything that waits, as workers would."""
        context = context_for(self.settings, QUEUES)
        try:
            while turn(context):
                pass
        finally:
            context.close()

    def finished(self, who: Person, files: Mapping[str, bytes] | None = None, **fields: str) -> dict[str, Any]:
        """Submits files and does the work; returns the job as it is then."""
        job = self.send(who, files, **fields)
        self.work()
        return self.json(who, job["links"]["self"])

    def json(self, who: Person, address: str) -> dict[str, Any]:
        """A document."""
        answer = self.ask(who, "GET", address)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json or {}
        return document

    def audited(self, action: str = "", outcome: str = "", object_id: object = "") -> int:
        """How many audit rows there are of this kind."""
        query = select(func.count()).select_from(AuditEvent)
        if action:
            query = query.where(AuditEvent.action == action)
        if outcome:
            query = query.where(AuditEvent.outcome == outcome)
        if object_id:
            query = query.where(AuditEvent.object_id == str(object_id))
        with self.database.read() as db:
            return db.scalar(query) or 0

    def close(self) -> None:
        """Closes the application's connections."""
        services(self.app).close()
