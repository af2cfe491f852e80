"""How gunicorn serves the web application, on one machine and in a container alike.

Owns the mapping from our settings to gunicorn's. One process with threads: pages wait on the database and on the
network, and the live progress of a job keeps a thread for as long as somebody watches.
"""

from config.settings import load_settings

_settings = load_settings()

bind = f"[{_settings.web_host}]:{_settings.web_port}" if ":" in _settings.web_host else (
    f"{_settings.web_host}:{_settings.web_port}"
)  # fmt: skip
workers = 1
worker_class = "gthread"
threads = _settings.web_threads
timeout = 60
graceful_timeout = 3  # streams of live progress never end by themselves
keepalive = 2
# An upload is streamed to disk by the application; gunicorn itself buffers nothing.
worker_tmp_dir = None
forwarded_allow_ips = "127.0.0.1"  # forwarded headers are judged by the application (proxy_count)
accesslog = None  # the application writes its own, without patient data
errorlog = "-"
loglevel = "warning"
proc_name = "neurosight-web"
