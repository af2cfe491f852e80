"""A real worker that gives up the first time it loses the broker, as Celery does at unlucky moments of such a loss.

NS_TEST_MARK names a file: it is made when the worker gives up, and it does so only while there is none.
"""

import os
import sys
from pathlib import Path
from typing import Any

from celery.worker.consumer.consumer import Consumer

from worker.__main__ import main

MARK = Path(os.environ["NS_TEST_MARK"])

_go_on = Consumer.on_connection_error_after_connected


def give_up_once(consumer: Any, error: Exception) -> None:
    if MARK.exists():
        _go_on(consumer, error)
        return
    MARK.touch()
    raise AttributeError("what kombu 5.7 raises when it restores a message over a connection that is gone")


type.__setattr__(Consumer, "on_connection_error_after_connected", give_up_once)

if __name__ == "__main__":
    sys.exit(main())
