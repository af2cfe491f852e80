"""The account page with its tokens; users and the audit trail for administrators."""

import re
from collections.abc import Callable

import pytest
from sqlalchemy import select

from db.queries import accounts
from db.queries.audit import SYSTEM
from db.session import Database
from db.states import Role
from db.users import ApiToken, AuditEvent, User
from tests.unit.web_pages.conftest import PASSWORD, Visitor, said

Visit = Callable[..., Visitor]


def code(text: str, name: str) -> str:
    """What stands in the `code` element of this id."""
    found = re.search(rf'<code id="{name}">([^<]+)</code>', text)
    assert found is not None
    return found[1]


def user_id(database: Database, name: str) -> str:
    """The number of a user."""
    with database.read() as session:
        return str(session.scalars(select(User.id).where(User.username == name)).one())


def one_user(database: Database, name: str = "rina") -> str:
    """Makes a user; returns his number."""
    with database.write() as session:
        return str(accounts.create_user(session, name, PASSWORD, Role.SUBMITTER, by=SYSTEM).id)


def test_a_token_is_shown_once_and_works_until_it_is_revoked(visit: Visit, database: Database) -> None:
    visitor = visit(Role.SUBMITTER)
    made = visitor.post("/account/tokens", name="workstation", days="30")
    assert made.status_code == 201
    plain = code(made.text, "token")
    assert plain not in visitor.get("/account").text
    program = {"Authorization": f"Bearer {plain}"}
    assert visit().client.get("/api/v1/me", headers=program).get_json()["username"] == "test-submitter"

    with database.read() as session:
        token = session.scalars(select(ApiToken)).one()
    assert token.expires_at is not None
    assert 29 < (token.expires_at - token.created_at).total_seconds() / 86400 < 31
    assert visitor.post(f"/account/tokens/{token.id}/revoke").location == "/account"
    assert visit().client.get("/api/v1/me", headers=program).status_code == 401
    assert "revoked" in visitor.get("/account").text


def test_nobody_revokes_the_token_of_another(visit: Visit, database: Database) -> None:
    visit(Role.SUBMITTER).post("/account/tokens", name="workstation", days="30")
    with database.read() as session:
        token_id = session.scalars(select(ApiToken.id)).one()
    assert visit(Role.ADMIN).post(f"/account/tokens/{token_id}/revoke").status_code == 404
    with database.read() as session:
        assert session.get_one(ApiToken, token_id).revoked_at is None


@pytest.mark.parametrize(("name", "days"), [("", "30"), ("x", "0"), ("x", "99999"), ("x", "soon")])
def test_a_token_needs_a_name_and_one_of_the_offered_times(
    visit: Visit, database: Database, name: str, days: str
) -> None:
    assert visit(Role.SUBMITTER).post("/account/tokens", name=name, days=days).status_code == 422
    with database.read() as session:
        assert session.scalars(select(ApiToken)).all() == []


@pytest.mark.parametrize("role", [Role.SUBMITTER, Role.CLINICIAN])
def test_only_administrators_see_users_and_the_audit_trail(visit: Visit, database: Database, role: Role) -> None:
    visitor, other = visit(role), one_user(database)
    assert visitor.get("/admin/users").status_code == visitor.get("/admin/audit").status_code == 403
    for path in (f"/admin/users/{other}/{what}" for what in ("role", "disable", "enable", "password")):
        assert visitor.post(path, role="admin").status_code == 403, path
    assert visitor.post("/admin/users", username="mine", role="admin").status_code == 403
    with database.read() as session:
        assert session.scalars(select(User.role).where(User.username == "rina")).one() == Role.SUBMITTER
        assert accounts.find_user(session, "mine") is None


def test_a_new_user_gets_a_one_time_password_that_is_shown_once(visit: Visit, database: Database) -> None:
    admin = visit(Role.ADMIN)
    made = admin.post("/admin/users", username=" Rina ", display_name="dr. Rina", role="clinician")
    assert made.status_code == 201
    password = code(made.text, "one-time")
    assert password not in admin.get("/admin/users").text
    assert visit().log_in("rina", password).location == "/password"
    with database.read() as session:
        kept = [str(row.detail) + row.object_id for row in session.scalars(select(AuditEvent))]
    assert password not in " ".join(kept)


@pytest.mark.parametrize("name", ["", "a b", "ümlaut", "test-admin", "<b>", "x" * 65])
def test_a_name_that_cannot_be_is_refused_and_stays_in_the_form(visit: Visit, database: Database, name: str) -> None:
    admin = visit(Role.ADMIN)
    refused = admin.post("/admin/users", username=name, display_name="Somebody", role="clinician")
    assert refused.status_code == 422
    assert "taken" in said(refused) if name == "test-admin" else "expected 1 to 64" in said(refused)
    assert 'value="Somebody"' in refused.text
    assert "<b>" not in refused.text
    with database.read() as session:
        assert len(accounts.list_users(session)) == 1


def test_an_unknown_role_is_refused(visit: Visit, database: Database) -> None:
    other = one_user(database)
    assert visit(Role.ADMIN).post(f"/admin/users/{other}/role", role="king").status_code == 422


def test_a_role_a_reset_and_a_closed_account_take_effect_at_once(visit: Visit, database: Database) -> None:
    admin, other = visit(Role.ADMIN), one_user(database)
    user = visit()
    user.log_in("rina")
    assert user.get("/account").status_code == 200
    assert admin.post(f"/admin/users/{other}/role", role="clinician").location == "/admin/users"
    assert user.get("/account").location.startswith("/login"), "the session of the old role ended"

    password = code(admin.post(f"/admin/users/{other}/password").text, "one-time")
    assert user.log_in("rina", PASSWORD).status_code == 401
    assert user.log_in("rina", password).location == "/password"

    assert admin.post(f"/admin/users/{other}/disable").location == "/admin/users"
    assert user.get("/password").location.startswith("/login")
    assert user.log_in("rina", password).status_code == 401
    assert admin.post(f"/admin/users/{other}/enable").location == "/admin/users"
    assert user.log_in("rina", password).location == "/password"


def test_an_administrator_cannot_lock_everybody_out(visit: Visit, database: Database) -> None:
    admin = visit(Role.ADMIN)
    mine = user_id(database, "test-admin")
    assert "own account" in said(admin.post(f"/admin/users/{mine}/disable"))
    assert "only admin" in said(admin.post(f"/admin/users/{mine}/role", role="submitter"))
    assert admin.get("/admin/users").status_code == 200


def test_an_unknown_user_is_not_found(visit: Visit) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    assert visit(Role.ADMIN).post(f"/admin/users/{nobody}/disable").status_code == 404


def test_the_audit_trail_is_filtered_and_paged(visit: Visit, database: Database) -> None:
    admin, other = visit(Role.ADMIN), one_user(database)
    visit().log_in("rina", "not this one at all")
    with database.write() as session:
        session.add_all(AuditEvent(action="study.view", outcome="ok", detail={}) for _ in range(250))
    denied = admin.get("/admin/audit?outcome=denied").text
    assert denied.count("<code>login</code>") == 1
    assert "study.view" not in denied
    about = admin.get(f"/admin/audit?object={other}").text
    assert about.count("<tr>") == 2, "the head, and the one row about this user"
    assert "user.create" in about
    seen, path = 0, "/admin/audit?action=study."
    for _ in range(3):
        page = admin.get(path).text
        seen += page.count("<code>study.view</code>")
        older = re.search(r'rel="next" href="([^"]+)"', page)
        if older is None:
            break
        path = older[1].replace("&amp;", "&")
    assert seen == 250
    assert "No entry" in admin.get("/admin/audit?action=nothing.like.this").text
    assert admin.get("/admin/audit?before=' OR 1=1").status_code == 200
