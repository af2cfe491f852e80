"""The OpenAPI document of the API, and a page that shows it to people.

Owns `/api/v1/openapi.json` and `/api/v1/docs`. The page is made on the server from the document itself, with nothing
loaded from elsewhere: hospital networks have no way out.
"""

from typing import Any

from flask import Blueprint, Response, current_app, jsonify, render_template, request

from web.access import public

blueprint = Blueprint(
    "api_document", __name__, template_folder="templates", static_folder="static", static_url_path="/docs/static"
)


@blueprint.get("/openapi.json")
@public
def openapi() -> Response:
    """The OpenAPI 3.1 document."""
    return jsonify(document())


@blueprint.get("/docs")
@public
def docs() -> str:
    """The document, readable."""
    whole = document()
    return render_template("api_docs.html", document=whole, groups=_groups(whole), root=request.url_root.rstrip("/"))


def document() -> dict[str, Any]:
    """The document of this app."""
    found: dict[str, Any] = current_app.extensions["neurosight.api"].document()
    return found


def _groups(whole: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Operations by tag, in the document's order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in whole["paths"].items():
        shared = methods.get("parameters", [])
        for method, operation in methods.items():
            if method == "parameters":
                continue
            parameters = [*shared, *operation.get("parameters", [])]
            entry = {**operation, "method": method.upper(), "path": path, "parameters": parameters}
            groups.setdefault((operation.get("tags") or ["other"])[0], []).append(entry)
    return groups
