"""All measurements, one after another: `make bench` (`ARGS="--rounds 3"` is handed to each).

Owns: the order. Each runs in a process of its own, so that none inherits another's memory.
"""

import os
import subprocess
import sys

SCRIPTS = ("benchmarks.worker_startup", "benchmarks.inference")


def main() -> int:
    """Runs every script; the exit status is the worst of theirs."""
    environment = {**os.environ, "NEUROSIGHT_LOG_LEVEL": os.environ.get("NEUROSIGHT_LOG_LEVEL", "WARNING")}
    return max(
        subprocess.run([sys.executable, "-m", name, *sys.argv[1:]], env=environment).returncode for name in SCRIPTS
    )


if __name__ == "__main__":
    sys.exit(main())
