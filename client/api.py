"""The server as Python functions: submit, follow, fetch.

Owns the order of requests. An upload is taken up again where it broke: before a file is sent again the server is asked
what has arrived, and what is there with the right SHA-256 is skipped.
"""

import json
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import quote, urlencode

from client.files import LocalFile
from client.transport import Answer, Refused, Transport, Unreachable

__all__ = ["Client", "Refused", "Sending", "Unreachable"]

ROOT = "/api/v1"
POLL_S = 1.0


@dataclass
class Sending:
    """How far an upload is; given to `on_progress` again and again."""

    files: int
    size_bytes: int
    files_done: int = 0
    bytes_done: int = 0
    skipped: int = 0
    trouble: str = ""
    """What went wrong just now, empty when nothing did."""


class Client:
    """A NeuroSight server.

    Args:
        url: `https://host[:port][/prefix]`.
        token: API token of the user who sends.
        timeout_s: Longest silence of the server, seconds.
        patience_s: A broken connection is tried again for so long, seconds.
        context: TLS settings, for servers with a certificate of the hospital's own.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = 60.0,
        patience_s: float = 300.0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._transport = Transport(url, token, timeout_s=timeout_s, patience_s=patience_s, context=context)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def me(self) -> dict[str, Any]:
        """The user to whom the token belongs."""
        return self._get(f"{ROOT}/me").json()

    def submit(
        self,
        files: Sequence[LocalFile],
        *,
        title: str = "",
        priority: str = "normal",
        on_progress: Callable[[Sending], None] | None = None,
    ) -> dict[str, Any]:
        """Sends files as one submission.

        Args:
            files: What to send (`client.gather` finds them).
            title: Shown in lists; by default the server takes the folder's name.
            priority: `urgent`, `normal` or `off_peak`.
            on_progress: Called after every piece sent, and on trouble.

        Returns:
            The job as the server describes it. It is safe there from now on.

        Raises:
            Refused: The server said no, e.g. too large, or the token is not valid.
            Unreachable: The connection could not be made again in time.
        """
        state = Sending(len(files), sum(file.size_bytes for file in files))
        report = on_progress or (lambda _: None)
        report(state)
        wish = json.dumps({"title": title, "priority": priority}).encode()
        upload = self._transport.send(
            "POST",
            f"{ROOT}/uploads",
            body=wish,
            headers={"Content-Type": "application/json"},
            on_trouble=self._trouble(state, report),
        ).json()
        address = upload["links"]["self"]
        arrived: set[tuple[str, str]] = set()
        for file in files:
            if state.trouble:  # something broke since: what has arrived meanwhile?
                arrived = self._arrived(address, state, report)
                state.trouble = ""
            if (file.name, file.sha256) in arrived:
                state.skipped += 1
                state.bytes_done += file.size_bytes
            else:
                self._put(address, file, state, report)
            state.files_done += 1
            report(state)
        return self._transport.send("POST", f"{address}/complete", on_trouble=self._trouble(state, report)).json()

    def job(self, job_id: str) -> dict[str, Any]:
        """A job."""
        return self._get(f"{ROOT}/jobs/{quote(job_id)}").json()

    def follow(self, job_id: str, *, period_s: float = POLL_S) -> Iterator[dict[str, Any]]:
        """The job again and again until it has ended; the last one has `ended` true."""
        while True:
            job = self.job(job_id)
            yield job
            if job["ended"]:
                return
            time.sleep(period_s)

    def results_csv(self, job_id: str) -> bytes:
        """The results of all studies of a job as CSV, one row a slice."""
        return self._get(f"{ROOT}/jobs/{quote(job_id)}/results.csv").body

    def receipt(self, job_id: str) -> dict[str, Any]:
        """What became of every file."""
        return self._get(f"{ROOT}/jobs/{quote(job_id)}/receipt").json()

    def study(self, study_id: str) -> dict[str, Any]:
        """A study with its summary."""
        return self._get(f"{ROOT}/studies/{quote(study_id)}").json()

    def study_results(self, study_id: str) -> dict[str, Any]:
        """Every slice of a study with its prediction."""
        return self._get(f"{ROOT}/studies/{quote(study_id)}/results").json()

    def get(self, link: str) -> Answer:
        """Whatever a link of the server's documents leads to."""
        return self._get(link)

    def _get(self, path: str) -> Answer:
        return self._transport.send("GET", path)

    def _put(self, address: str, file: LocalFile, state: Sending, report: Callable[[Sending], None]) -> None:
        before = state.bytes_done

        def opened() -> IO[bytes]:
            state.bytes_done = before
            return _Counted(file, state, report)  # type: ignore[return-value] # has what the transport uses

        self._transport.send(
            "PUT",
            f"{address}/files?{urlencode({'path': file.name})}",
            body=opened,
            size=file.size_bytes,
            headers={"Content-Type": "application/octet-stream", "X-Content-SHA256": file.sha256},
            on_trouble=self._trouble(state, report),
        )
        state.bytes_done = before + file.size_bytes

    def _arrived(self, address: str, state: Sending, report: Callable[[Sending], None]) -> set[tuple[str, str]]:
        upload = self._transport.send("GET", address, on_trouble=self._trouble(state, report)).json()
        return {(file["path"], file["sha256"]) for file in upload["files"]}

    def _trouble(self, state: Sending, report: Callable[[Sending], None]) -> Callable[[str, float], None]:
        def told(what: str, pause_s: float) -> None:
            state.trouble = f"{what}; trying again in {pause_s:.1f} s"
            report(state)

        return told


class _Counted:
    """A file that reports how much of it was read."""

    def __init__(self, file: LocalFile, state: Sending, report: Callable[[Sending], None]) -> None:
        self._file = file.place.open("rb")
        self._state, self._report = state, report

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self._state.bytes_done += len(piece)
        self._report(self._state)
        return piece

    def __enter__(self) -> "_Counted":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
