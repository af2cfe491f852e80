"""Log lines: one JSON object each, for web and gateway alike.

Owns the format. Refuses the messages of exceptions, which may hold what somebody sent: of one that is logged, only the
places it came through are written.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from config.settings import Settings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, event, and the `extra` fields."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info and record.exc_info[2] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            line["places"] = [
                f"{frame.filename.rpartition('/')[2]}:{frame.lineno}:{frame.name}" for frame in frames[-12:]
            ]
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(JsonFormatter):
    """The same for people: `time level event key=value ...`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of text."""
        line = json.loads(super().format(record))
        head = f"{line.pop('time')} {line.pop('level'):7} {line.pop('event')}"
        return " ".join([head, *(f"{name}={value}" for name, value in line.items())])


def configure(settings: Settings) -> None:
    """Sends all logs of this process to standard error in our format; called once by the process that serves."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
