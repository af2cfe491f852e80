"""Accounts over HTTP: logging in, sessions that end when they must, forged requests, tokens, the first admin."""

import re
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from werkzeug.test import TestResponse

from db.base import utc_now
from db.queries import accounts
from db.queries.audit import SYSTEM
from db.session import Database
from db.states import Role
from db.users import ApiToken, LoginFailure, User, UserSession
from tests.web_world import PASSWORD, World
from web.__main__ import main
from web.services import services


def csrf(client: FlaskClient, address: str = "/login") -> str:
    """The token of a page's form."""
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get(address).text)
    assert found, f"{address} has no form with a token"
    return found.group(1)


def log_in(client: FlaskClient, username: str, password: str = PASSWORD) -> TestResponse:
    return client.post("/login", data={"username": username, "password": password, "csrf_token": csrf(client)})


def logged_in(world: World, username: str) -> FlaskClient:
    client = world.client()
    assert log_in(client, username).status_code in (302, 303)
    return client


def status(client: FlaskClient) -> int:
    return client.get("/api/v1/me").status_code


def test_a_login_makes_a_session_that_a_logout_ends_for_every_copy(world: World) -> None:
    client = logged_in(world, "ann")
    assert (client.get("/api/v1/me").json or {})["via"] == "session"
    cookie = client.get_cookie("neurosight")
    assert cookie is not None
    assert cookie.http_only
    assert cookie.same_site == "Lax"
    copy = world.client()
    copy.set_cookie("neurosight", cookie.value)
    assert status(copy) == 200
    client.post("/logout", data={"csrf_token": csrf(client, "/account")})
    assert (status(client), status(copy)) == (401, 401)
    assert world.audited("login", "ok") == 1
    assert world.audited("logout", "ok") == 1


def test_wrong_names_and_passwords_look_the_same_and_are_in_the_trail(world: World) -> None:
    client = world.client()
    answers = [log_in(client, "ann", "wrong password"), log_in(client, "nobody", "wrong password")]
    texts = {re.sub(r'value="[^"]*"|[0-9a-f]{32}', "", answer.text) for answer in answers}
    assert len(texts) == 1
    assert status(client) == 401
    assert world.audited("login", "denied") == 2


def test_too_many_failures_pause_the_login_for_all_processes(world: World) -> None:
    services(world.app).settings = world.settings.model_copy(update={"login_failures_allowed": 3})
    client = world.client()
    for _ in range(3):
        log_in(client, "ann", "wrong password")
    assert log_in(client, "ann").status_code not in (302, 303), "the right password does not help during the pause"
    assert status(client) == 401
    assert logged_in(world, "bob"), "others are not held up"
    with world.database.write() as db:
        db.execute(update(LoginFailure).values(failed_at=utc_now() - timedelta(seconds=world.settings.login_pause_s)))
    assert log_in(client, "ann").status_code in (302, 303)


def test_sessions_end_when_the_account_changes(world: World) -> None:
    for change in ("password", "role", "disable"):
        user_name = f"user-{change}"
        world.add(user_name, Role.CLINICIAN)
        client = logged_in(world, user_name)
        assert status(client) == 200
        with world.database.write() as db:
            user = accounts.find_user(db, user_name)
            assert user is not None
            if change == "password":
                accounts.change_password(db, user, "another good password", by=SYSTEM)
            elif change == "role":
                accounts.change_role(db, user, Role.SUBMITTER, by=SYSTEM)
            else:
                accounts.disable_user(db, user, by=SYSTEM)
        assert status(client) == 401, change
    assert log_in(world.client(), "user-disable").status_code not in (302, 303)
    assert world.ask(world.people["user-disable"], "GET", "/api/v1/me").status_code == 401


@pytest.mark.parametrize("column", ["seen_at", "created_at"])
def test_sessions_end_when_idle_or_old(world: World, column: str) -> None:
    client = logged_in(world, "ann")
    limit = world.settings.session_idle_s if column == "seen_at" else world.settings.session_absolute_s
    for age, expected in ((limit - 60, 200), (limit + 1, 401)):
        with world.database.write() as db:
            db.execute(update(UserSession).values({column: utc_now() - timedelta(seconds=age)}))
        assert status(client) == expected
    with world.database.write() as db:
        db.execute(update(UserSession).values({column: utc_now()}))
    assert status(client) == 401, "the cookie has forgotten it"


def test_use_keeps_a_session_open(world: World) -> None:
    client = logged_in(world, "ann")
    with world.database.write() as db:
        db.execute(update(UserSession).values(seen_at=utc_now() - timedelta(seconds=600)))
    assert status(client) == 200
    with world.database.read() as db:
        assert utc_now() - db.scalars(select(UserSession.seen_at)).one() < timedelta(seconds=30)


def test_a_new_session_each_login_and_none_from_outside(world: World) -> None:
    client = world.client()
    before = csrf(client)
    assert log_in(client, "ann").status_code in (302, 303)
    after = client.post("/api/v1/uploads", json={}, headers={"X-CSRFToken": before})
    assert (after.status_code, (after.json or {})["code"]) == (403, "csrf"), "a token from before the login is useless"


@pytest.mark.parametrize(("method", "address"), [("POST", "/api/v1/uploads"), ("POST", "/api/v1/studies")])
def test_forged_requests_are_refused(world: World, method: str, address: str) -> None:
    client = logged_in(world, "ann")
    token = csrf(client, "/account")
    for headers in (
        {},
        {"X-CSRFToken": "x"},
        {"X-CSRFToken": token, "Origin": "https://evil.example"},
        {"X-CSRFToken": token, "Sec-Fetch-Site": "cross-site"},
    ):
        answer = client.open(address, method=method, json={}, headers=headers)
        assert answer.status_code == 403, headers
    answer = client.open(address, method=method, json={}, headers={"X-CSRFToken": token, "Origin": "http://localhost"})
    assert answer.status_code in (201, 415)


def test_a_one_time_password_opens_nothing_but_its_change(world: World) -> None:
    with world.database.write() as db:
        accounts.create_user(db, "new", PASSWORD, Role.ADMIN, by=SYSTEM, must_change_password=True)
    client = logged_in(world, "new")
    assert status(client) == 200
    assert (client.get("/api/v1/jobs").json or {})["code"] == "password_change"
    assert client.get("/jobs").headers["Location"] == "/password"
    form = {"old": PASSWORD, "new": "quite another password", "again": "quite another password"}
    page = client.get("/password").text
    names = re.findall(r'<input[^>]*type="password"[^>]*name="([^"]+)"|name="([^"]+)"[^>]*type="password"', page)
    fields = [first or second for first, second in names]
    assert len(fields) == 3, fields
    values = dict(zip(fields, form.values(), strict=True))
    client.post("/password", data={**values, "csrf_token": csrf(client, "/password")})
    assert client.get("/api/v1/jobs").status_code == 200


def test_tokens_are_shown_once_expire_and_can_be_revoked(world: World) -> None:
    ann = world.people["ann"]
    made = world.ask(ann, "POST", "/api/v1/me/tokens", json={"name": "script", "expires_in_days": 1})
    assert made.status_code == 201
    token = made.json or {}
    assert token["token"].startswith("nst_")
    listed = world.ask(ann, "GET", "/api/v1/me/tokens")
    assert token["token"] not in listed.text
    with world.database.read() as db:
        assert token["token"] not in str(db.execute(select(ApiToken.token_sha256, ApiToken.name)).all())
    bearer = {"Authorization": f"Bearer {token['token']}"}
    assert world.ask(None, "GET", "/api/v1/me", headers=bearer).status_code == 200
    assert world.ask(world.people["bob"], "DELETE", f"/api/v1/me/tokens/{token['id']}").status_code == 404
    assert world.ask(ann, "DELETE", f"/api/v1/me/tokens/{token['id']}").status_code == 204
    refused = world.ask(None, "GET", "/api/v1/me", headers=bearer)
    assert (refused.status_code, (refused.json or {})["code"]) == (401, "token")
    assert "Bearer" in refused.headers["WWW-Authenticate"]
    with world.database.write() as db:
        db.execute(update(ApiToken).values(expires_at=utc_now() - timedelta(seconds=1)))
    assert world.ask(ann, "GET", "/api/v1/me").status_code == 401


def test_the_first_admin_is_made_once(database: Database) -> None:
    with database.write() as db:
        made = accounts.ensure_first_admin(db)
    assert made is not None
    username, password = made
    with database.write() as db:
        assert accounts.ensure_first_admin(db) is None
        user = accounts.find_user(db, username)
        assert user is not None
        assert (user.role, user.must_change_password) == (Role.ADMIN, True)
        assert password not in user.password_hash
        assert user.password_hash.startswith("$argon2id$")
        assert accounts.password_matches(user.password_hash, password)
        assert not accounts.password_matches(user.password_hash, password + "x")


def test_what_accounts_refuse(database: Database) -> None:
    with database.write() as db:
        accounts.ensure_first_admin(db)
        admin = accounts.find_user(db, "admin")
        assert admin is not None
        with pytest.raises(accounts.AccountError, match="only admin"):
            accounts.disable_user(db, admin, by=SYSTEM)
        with pytest.raises(accounts.AccountError, match="only admin"):
            accounts.change_role(db, admin, Role.CLINICIAN, by=SYSTEM)
        with pytest.raises(accounts.AccountError, match="is taken"):
            accounts.create_user(db, " ADMIN ", PASSWORD, Role.ADMIN, by=SYSTEM)
        with pytest.raises(accounts.AccountError, match="expected 1 to 64 of"):
            accounts.create_user(db, "a b", PASSWORD, Role.ADMIN, by=SYSTEM)
        with pytest.raises(accounts.AccountError, match="11 characters; expected 12"):
            accounts.create_user(db, "new", "12345678901", Role.ADMIN, by=SYSTEM)
        with pytest.raises(accounts.AccountError, match="repeats very few characters"):
            accounts.create_user(db, "new", "aaaaaaaaaaaaaa", Role.ADMIN, by=SYSTEM)
        assert db.scalar(select(func.count()).select_from(User)) == 1


def test_accounts_from_the_command_line(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEUROSIGHT_DATABASE_URL", sqlite_url)
    assert main(["accounts", "first-admin"]) == 0
    assert "one-time password:" in capsys.readouterr().out
    assert main(["accounts", "create", "bob", "--role", "clinician"]) == 0
    assert main(["accounts", "token", "bob"]) == 0
    token = capsys.readouterr().out.split()[-1]
    database = Database(sqlite_url)
    with database.read() as db:
        known = accounts.user_of_token(db, token)
        assert known is not None
        assert known.user.username == "bob"
    database.close()
    assert main(["accounts", "password", "admin"]) == 0
    assert main(["accounts", "disable", "admin"]) == 1
    assert "only admin" in capsys.readouterr().err
    assert main(["accounts", "role", "nobody", "admin"]) == 1
    assert "there is no user 'nobody'" in capsys.readouterr().err
