"""Structured logs of workers: one JSON object a line, with the job's ids.

Owns the configuration of structlog and of the standard library's loggers in a worker process. Refuses patient data
and file names: what is logged are ids, codes, counts and times.
"""

import logging
import sys

import structlog

from config.settings import Settings

_QUIET = ("celery.worker.strategy", "pydicom", "PIL", "botocore", "urllib3", "s3fs", "fsspec")


def configure(settings: Settings) -> None:
    """Sends structlog and the standard library's logging to stderr in one form."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if settings.log_format == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    # It writes the arguments and the message of whatever a task raised.
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)
    logging.captureWarnings(True)
