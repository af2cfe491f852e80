"""A program that starts the web server as often as it is asked, quickly: for the test that kills it fifty times.

It loads everything that the server imports, then forks: each child is gunicorn with our configuration, from its command
line to its end, as `python -m gunicorn --config ops/gunicorn_conf.py web:create_app()` would be. What a start costs
besides, loading Python modules, has nothing to do with what is tested.

Owns: one line in, `start`; one line out, the process id of a server that leads a process group of its own.
"""

import importlib
import os
import pkgutil
import signal
import sys

import web


def main() -> None:
    """Starts a server for each line, until there are no more."""
    for module in pkgutil.walk_packages(web.__path__, "web."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    server = importlib.import_module("gunicorn.app.wsgiapp")
    importlib.import_module("gunicorn.workers.gthread")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever was killed leaves nothing behind
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(2, 1)
            sys.argv[1:] = ["--config", "ops/gunicorn_conf.py", "web:create_app()"]
            server.run()
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
