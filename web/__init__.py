"""The web front: pages, REST API, health and metrics.

Owns HTTP: who may ask, what is accepted, how it is answered. Sends work by writing rows and ringing the doorbell;
never loads a network, never imports worker, training or inference. `create_app` builds everything; nothing happens at
import.
"""

import logging

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from config.settings import ROOT, Settings, load_settings

FORM_BYTES = 1024 * 1024
FORM_PARTS = 200


def create_app(settings: Settings | None = None) -> Flask:
    """Builds the application.

    Args:
        settings: By default those of the environment; then logs are configured for a serving process too.

    Returns:
        A WSGI application.

    Raises:
        SettingsError: When the settings are not usable.
        UndeclaredAccess: When a route does not say who may call it.
    """
    from config import logs as log_lines
    from web import access, api, headers, health, logs, metrics, objects, pages, problems, services, sessions, unread

    if settings is None:
        settings = load_settings()
        log_lines.configure(settings)
    app = Flask("web", root_path=str(ROOT / "web"))
    app.config.update(
        MAX_CONTENT_LENGTH=FORM_BYTES,
        MAX_FORM_MEMORY_SIZE=FORM_BYTES,
        MAX_FORM_PARTS=FORM_PARTS,
        TRAP_HTTP_EXCEPTIONS=False,
        PROPAGATE_EXCEPTIONS=False,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider has it
    services.install(app, settings)
    if settings.proxy_count:
        hops = settings.proxy_count
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    problems.init_app(app)
    logs.init_app(app)
    metrics.init_app(app)
    sessions.init_app(app)
    access.init_app(app)
    objects.init_app(app)
    headers.init_app(app)
    unread.init_app(app)
    health.init_app(app)
    api.init_app(app)
    pages.init_app(app)
    access.check_declared(app)
    logging.getLogger("web").debug("app built")
    return app
