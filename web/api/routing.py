"""The API's blueprint: flask-smorest's, with types, and with the answers that every route may give.

Owns the documentation of errors, so that no route forgets one. Refuses to hold routes.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import flask_smorest
from marshmallow import INCLUDE, Schema, fields

F = TypeVar("F", bound=Callable[..., Any])

PROBLEM_TYPE = "application/problem+json"
PNG = "image/png"


class ProblemDocument(Schema):
    """RFC 9457 problem document; further members hold the facts in the detail, e.g. `limit_bytes`."""

    class Meta:
        """Further members are allowed."""

        unknown = INCLUDE

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True, metadata={"description": "What was received, expected, and how to fix it"})
    code = fields.String(required=True, metadata={"description": "Stable machine-readable name of the problem"})
    request_id = fields.String(required=True)


MEANINGS = {
    400: "The request is malformed",
    401: "No session and no valid token",
    403: "The role does not allow it, or the CSRF token is missing",
    404: "There is none, or it is not yours to see",
    406: "The answer has no form that the request accepts",
    409: "Not possible in the present state",
    413: "Larger than the limit, which stands in `limit_bytes`",
    415: "This content type is not accepted",
    422: "A parameter is not valid",
    429: "Too many attempts or connections; see Retry-After",
    503: "The database is busy; nothing was lost; see Retry-After",
    507: "The disk is full; nothing was stored",
}


class ApiBlueprint(flask_smorest.Blueprint):  # type: ignore[misc] # flask-smorest has no types
    """A blueprint of the API."""

    def at(
        self, method: str, rule: str, *, problems: tuple[int, ...] = (), doc: Mapping[str, Any] | None = None
    ) -> Callable[[F], F]:
        """Routes one method of an address; documents the problems it may answer besides 401, 403 and 503.

        Args:
            method: `GET`, `POST`, ...
            rule: Address below the API's prefix.
            problems: Further statuses of problem documents.
            doc: Further members of the OpenAPI operation.
        """

        def decorate(view: F) -> F:
            for status in sorted({401, 403, 503, *problems}):
                view = self.alt_response(
                    status, schema=ProblemDocument, description=MEANINGS[status], content_type=PROBLEM_TYPE
                )(view)
            if doc:
                view = self.doc(**doc)(view)
            return self.route(rule, methods=[method])(view)  # type: ignore[no-any-return]

        return decorate

    def takes(self, schema: type[Schema], location: str = "json") -> Callable[[F], F]:
        """Parses and checks what is sent."""
        return self.arguments(schema, location=location)  # type: ignore[no-any-return]

    def gives(
        self, status: int, schema: type[Schema] | None = None, *, content_type: str = "", **more: Any
    ) -> Callable[[F], F]:
        """Builds the answer from the view's value; with `content_type` instead of a schema the view answers itself."""
        answer: Callable[[F], F] = self.response(status, schema, **more)
        if not content_type:
            return answer
        picture = {"type": "string", "format": "binary"} if content_type == PNG else {"type": "string"}
        kinds = {"description": more.get("description", "OK"), "content": {content_type: {"schema": picture}}}

        def decorate(view: F) -> F:
            return self.doc(responses={str(status): kinds})(answer(view))  # type: ignore[no-any-return]

        return decorate
