"""The REST API, version 1: OpenAPI document, its page, and the blueprints.

Owns the address prefix and the document. Every answer that is not a success is a problem document (`web.problems`).
"""

import threading
from typing import Any

from flask import Flask
from flask_smorest import Api

from config.version import code_version

PREFIX = "/api/v1"

DESCRIPTION = """\
Send brain MRI studies, follow their jobs, fetch classifications and Grad-CAM heatmaps. **Research use only: not for
diagnosis.** Log in with an API token (`Authorization: Bearer TOKEN`) or with the browser's session (then every
unsafe method needs the header `X-CSRFToken`). Every error is a problem document (RFC 9457)."""


class OpenApi(Api):  # type: ignore[misc] # flask-smorest has no types
    """Errors are answered by `web.problems`, for the whole application, and documented route by route.

    The document is written when it is first asked for: that takes longer than all else at the start of the web server.
    """

    DEFAULT_ERROR_RESPONSE_NAME = None

    def __init__(self, app: Flask) -> None:
        self._turn = threading.Lock()
        self._unwritten: list[Any] = []
        super().__init__(app)

    def register_blueprint(self, blp: Any, **options: Any) -> None:
        """Hangs a blueprint on the app, and remembers to document it."""
        self._app.extensions["flask-smorest"]["blp_name_to_api"][blp.name] = self
        self._app.register_blueprint(blp, **options)
        self._unwritten.append(blp)

    def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        with self._turn:
            while self._unwritten:
                blueprint = self._unwritten[0]
                blueprint.register_views_in_doc(self, self._app, self.spec, name=blueprint.name, parameters=None)
                self.spec.tag({"name": blueprint.name, "description": blueprint.description})
                del self._unwritten[0]
            written: dict[str, Any] = self.spec.to_dict()
            return written

    def _register_error_handlers(self) -> None:
        """Leaves the application's own error map in force."""


def init_app(app: Flask) -> None:
    """Adds the API to the app."""
    from web.api import (
        account,
        candidates,
        checkpoints,
        datasets,
        decisions,
        dicomweb,
        document,
        jobs,
        pictures,
        predictions,
        retrievals,
        sendings,
        studies,
        sweeps,
        uploads,
    )

    app.config.update(
        API_TITLE="NeuroSight",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
        API_SPEC_OPTIONS=_options(),
    )
    api = OpenApi(app)
    app.extensions["neurosight.api"] = api
    for module in (
        uploads,
        jobs,
        studies,
        sendings,
        retrievals,
        decisions,
        datasets,
        pictures,
        predictions,
        checkpoints,
        candidates,
        sweeps,
        account,
    ):
        api.register_blueprint(module.blueprint, url_prefix=PREFIX)
    api.register_blueprint(dicomweb.blueprint, url_prefix=dicomweb.PREFIX)
    app.register_blueprint(document.blueprint, url_prefix=PREFIX)


def _options() -> dict[str, Any]:
    return {
        "info": {"description": DESCRIPTION, "license": {"name": "see LICENSE"}, "x-code-version": code_version()},
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "neurosight"},
            }
        },
        "security": [{"token": []}, {"session": []}],
    }
