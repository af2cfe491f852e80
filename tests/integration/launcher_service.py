"""A small real service for the launcher's tests: `python tests/integration/launcher_service.py ROLE`.

Roles: `web` answers /health/ready on the settings' port; `worker` has a child process, as Celery's has, and writes the
time of its end; `failing` ends at once with a message.
"""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import FrameType
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def note_end(role: str) -> None:
    """Appends `ROLE TIME` to the file that the test reads."""
    with (Path(os.environ["NEUROSIGHT_VAR_DIR"]) / "ends").open("a") as file:
        file.write(f"{role} {time.monotonic()}\n")


def serve_web() -> None:
    """Answers readiness until SIGTERM."""
    from config.settings import load_settings

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"checks": {}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    settings = load_settings()
    server = HTTPServer((settings.web_host, settings.web_port), Answer)

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        note_end("web")
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    print(json.dumps({"event": "listening", "level": "info", "port": settings.web_port}), flush=True)
    server.serve_forever()


def work() -> None:
    """Has a child that ignores SIGTERM, and ends it when told to end."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        time.sleep(0.3)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        note_end("worker")
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    print("working", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    role = sys.argv[1]
    if role == "web":
        serve_web()
    elif role == "worker":
        work()
    else:
        print("cannot find the thing that is needed", flush=True)
        raise SystemExit(7)
