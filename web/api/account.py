"""API: who am I, and my API tokens."""

from datetime import timedelta
from typing import Any

from db.base import utc_now
from db.queries import accounts
from db.states import Role
from db.users import ApiToken, User
from web.access import actor, requires, the_user
from web.api import schemas
from web.api.routing import ApiBlueprint
from web.problems import Problem
from web.services import services

blueprint = ApiBlueprint("account", __name__, description="Who am I, and my API tokens")


@blueprint.at("GET", "/me")
@blueprint.gives(200, schemas.Me)
@requires(Role.SUBMITTER, before_password_change=True)
def me() -> dict[str, Any]:
    """The logged-in user."""
    user = the_user()
    return {
        "id": user.id,
        "username": user.username,
        "display_name": user.display_name,
        "role": user.role,
        "must_change_password": user.must_change_password,
        "via": user.via,
    }


@blueprint.at("GET", "/me/tokens")
@blueprint.gives(200, schemas.TokenList)
@requires(Role.SUBMITTER)
def list_tokens() -> dict[str, Any]:
    """My API tokens; the tokens themselves are never shown again."""
    with services().database.read() as db:
        return {"tokens": accounts.list_tokens(db, the_user().id)}


@blueprint.at("POST", "/me/tokens", problems=(422,))
@blueprint.takes(schemas.NewToken)
@blueprint.gives(201, schemas.TokenShown)
@requires(Role.SUBMITTER, header_csrf=True)
def create_token(wanted: dict[str, Any]) -> dict[str, Any]:
    """Makes an API token; it is shown in this answer and never again."""
    days = wanted.get("expires_in_days")
    expires_at = utc_now() + timedelta(days=days) if days else None
    with services().database.write() as db:
        user = db.get_one(User, the_user().id)
        token, plain = accounts.create_token(db, user, wanted["name"], by=actor(), expires_at=expires_at)
    return {
        "id": token.id,
        "name": token.name,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "token": plain,
    }


@blueprint.at("DELETE", "/me/tokens/<uuid:token_id>", problems=(404,))
@blueprint.gives(204)
@requires(Role.SUBMITTER)
def revoke_token(token_id: Any) -> None:
    """Ends one of my API tokens at once."""
    with services().database.write() as db:
        token = db.get(ApiToken, token_id)
        if token is None or token.user_id != the_user().id:
            raise Problem(404, "not_found", "You have no such token.")
        accounts.revoke_token(db, token, by=actor())
