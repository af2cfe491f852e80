"""Speaks with the running system over its REST API, as any user's program does.

Owns what the demo and the doctor need of it: send a folder, follow a job, fetch results and pictures. Standard library
only. Refuses to follow an address to another host, so that a token goes nowhere else.
"""

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

TIMEOUT_S = 30.0

Document = dict[str, Any]


class ApiError(Exception):
    """The API answered with a problem, or not at all; the message is the problem's sentence."""


class Api:
    """One user's access to one system.

    Args:
        url: Address of the system, such as `http://127.0.0.1:8350`.
        token: API token; empty for what everybody may ask.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/")
        self._token = token

    def get(self, path: str) -> Document:
        """The JSON document at an address below the system's; raises ApiError."""
        return self._json(self._send("GET", path))

    def fetch(self, path: str) -> bytes:
        """The bytes at an address, such as a picture's; raises ApiError."""
        return self._send("GET", path)

    def submit(
        self, folder: Path, title: str, said: Callable[[int, int], None], *, priority: str = "normal"
    ) -> Document:
        """Sends every file of a folder (or one file) as one submission; returns the job's document.

        Args:
            folder: What to send.
            title: Name of the job.
            said: Called with (files sent, files to send).
            priority: `urgent`, `normal` or `off_peak`.

        Raises:
            ApiError: When a file or the submission is refused; what arrived is swept later.
        """
        paths = list(_files(folder))
        body = {"title": title, "priority": priority}
        upload = self._json(self._send("POST", "/api/v1/uploads", json.dumps(body).encode(), "application/json"))
        for number, path in enumerate(paths):
            said(number, len(paths))
            content = path.read_bytes()
            name = path.relative_to(folder.parent).as_posix()
            self._send(
                "PUT",
                f"{upload['links']['files']}?path={quote(name, safe='')}",
                content,
                "application/octet-stream",
                {"X-Content-SHA256": hashlib.sha256(content).hexdigest()},
            )
        said(len(paths), len(paths))
        return self._json(self._send("POST", upload["links"]["complete"], b"{}", "application/json"))

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "",
        headers: dict[str, str] | None = None,
    ) -> bytes:
        ours = urlsplit(self.url)
        parts = urlsplit(path)
        if parts.netloc not in ("", ours.netloc):
            raise ApiError(f"the system names an address at {parts.netloc}; expected one at {ours.netloc}")
        address = f"{self.url}{parts.path}{'?' + parts.query if parts.query else ''}"
        request = urllib.request.Request(address, data=body, method=method, headers=headers or {})  # noqa: S310 - http(s)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        if content_type:
            request.add_header("Content-Type", content_type)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(f"{method} {parts.path}: {error.code}, {_sentence(error.read())}") from None
        except OSError as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise ApiError(f"{method} {parts.path}: no answer from {self.url} ({reason})") from None

    @staticmethod
    def _json(content: bytes) -> Document:
        document: Document = json.loads(content)
        return document


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _sentence(body: bytes) -> str:
    try:
        document = json.loads(body)
        return str(document.get("detail") or document.get("title"))
    except (ValueError, AttributeError):
        return "without a reason that can be read"
