"""The application on a fresh SQLite database, and browsers without a window: test clients that fill in forms."""

import io
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from config.settings import load_settings
from db.queries import accounts
from db.queries.audit import SYSTEM
from db.session import Database
from db.states import Role
from web import create_app
from web.services import services

PASSWORD = "a long password for tests"
HTML = {"Accept": "text/html"}


class Visitor:
    """A person with a browser that has no scripts.

    Args:
        app: The application.
    """

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()

    def get(self, path: str) -> TestResponse:
        """Opens a page."""
        return self.client.get(path, headers=HTML)

    def token(self) -> str:
        """The security token as it stands in the page on which everybody may be."""
        page = self.client.get("/login", headers=HTML, follow_redirects=True).text
        found = re.search(r'name="csrf-token" content="([^"]+)"', page)
        assert found is not None
        return found[1]

    def post(self, path: str, *, token: str | None = None, **fields: Any) -> TestResponse:
        """Sends a form; its token is taken from a page unless one is given."""
        form = {"csrf_token": self.token() if token is None else token, **fields}
        return self.client.post(path, data=form, headers=HTML)

    def log_in(self, username: str, password: str = PASSWORD, **fields: Any) -> TestResponse:
        """Logs in."""
        return self.post("/login", username=username, password=password, **fields)

    def send_files(self, path: str, files: dict[str, bytes], **fields: str) -> TestResponse:
        """Sends a multipart form; the token comes before the files, as in the page."""
        parts = {
            "csrf_token": self.token(),
            **fields,
            "files": [(io.BytesIO(content), name) for name, content in files.items()],
        }
        return self.client.post(path, data=parts, headers=HTML, content_type="multipart/form-data")


def said(page: TestResponse) -> str:
    """What a page's notices say."""
    notices = re.findall(r'<p class="notice[^>]*>(.*?)</p>', page.text, re.DOTALL)
    return unescape(" ".join(re.sub(r"<[^>]+>", "", notice).strip() for notice in notices))


@pytest.fixture
def app(sqlite_url: str, tmp_path: Path) -> Iterator[Flask]:
    """The application."""
    settings = load_settings(
        var_dir=tmp_path / "var",
        database_url=sqlite_url,
        min_free_disk_bytes=0,
        max_upload_files=5,
        max_file_bytes=4096,
    )
    built = create_app(settings)
    built.testing = True
    yield built
    services(built).close()


@pytest.fixture
def database(app: Flask) -> Database:
    """The application's database."""
    return services(app).database


@pytest.fixture
def visit(app: Flask, database: Database) -> Callable[..., Visitor]:
    """`visit()` is anonymous, `visit(role)` is logged in as `test-ROLE`."""

    def visitor(role: Role | None = None) -> Visitor:
        one = Visitor(app)
        if role is not None:
            name = f"test-{role}"
            with database.write() as session:
                if accounts.find_user(session, name) is None:
                    accounts.create_user(session, name, PASSWORD, role, by=SYSTEM)
            assert one.log_in(name).status_code == 303
        return one

    return visitor
