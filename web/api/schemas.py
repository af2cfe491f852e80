"""The shapes of the API's answers and requests, as they stand in the OpenAPI document.

Owns names and types only; the values are built in `db.queries` and the views.
"""

from marshmallow import Schema, fields, validate

from db.states import Role

RESEARCH_USE_ONLY = "Research use only. Not for diagnosis or treatment decisions."


class Me(Schema):
    """The logged-in user."""

    id = fields.UUID(required=True)
    username = fields.String(required=True)
    display_name = fields.String(required=True)
    role = fields.Enum(Role, by_value=True, required=True)
    must_change_password = fields.Boolean(required=True)
    via = fields.String(required=True, validate=validate.OneOf(["session", "token"]))


class Token(Schema):
    """An API token, without the token itself."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)
    expires_at = fields.AwareDateTime(allow_none=True)
    last_used_at = fields.AwareDateTime(allow_none=True)
    revoked_at = fields.AwareDateTime(allow_none=True)


class TokenList(Schema):
    """A user's API tokens."""

    tokens = fields.List(fields.Nested(Token), required=True)


class NewToken(Schema):
    """What a new API token shall be."""

    name = fields.String(required=True, validate=validate.Length(1, 64))
    expires_in_days = fields.Integer(load_default=90, allow_none=True, validate=validate.Range(1, 3650))


class TokenShown(Token):
    """A new API token with the token itself: shown once."""

    token = fields.String(required=True)
