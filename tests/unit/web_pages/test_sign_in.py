"""Login, logout, the forced new password, the language switch, and where each sends the browser."""

from collections.abc import Callable

import pytest

from db.queries import accounts
from db.queries.audit import SYSTEM
from db.session import Database
from db.states import Role
from tests.unit.web_pages.conftest import PASSWORD, Visitor, said
from web.pages.redirects import safe_path

Visit = Callable[..., Visitor]


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs?page=2&mine=1", "/studies/0a/"])
def test_paths_of_this_site_are_kept(path: str) -> None:
    assert safe_path(path) == path


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "jobs",
        "https://elsewhere.example/",
        "//elsewhere.example/jobs",
        "/\\elsewhere.example",
        "\\\\elsewhere.example",
        "/\t/elsewhere.example",
        "/jobs\nSet-Cookie: a=b",
        " //elsewhere.example",
        "javascript:alert(1)",
        "/" + "a" * 3000,
        "http:/elsewhere.example",
        "///elsewhere.example",
    ],
)
def test_other_addresses_are_refused(address: str | None) -> None:
    assert safe_path(address) is None


def test_an_anonymous_visitor_is_sent_to_the_login_and_back(visit: Visit, database: Database) -> None:
    visit(Role.SUBMITTER)
    visitor = visit()
    assert visitor.get("/").location == "/login"
    sent = visitor.get("/jobs?mine=1")
    assert sent.location == "/login?next=%2Fjobs%3Fmine%3D1"
    assert 'name="next" value="/jobs?mine=1"' in visitor.get(sent.location).text
    assert visitor.log_in("test-submitter", next="/jobs?mine=1").location == "/jobs?mine=1"
    assert visitor.get("/login").location == "/", "who is logged in needs no login form"


def test_the_login_never_sends_to_another_site(visit: Visit) -> None:
    visit(Role.SUBMITTER)
    assert visit().log_in("test-submitter", next="https://elsewhere.example/").location == "/"
    assert 'value="//elsewhere' not in visit().get("/login?next=//elsewhere.example").text


def test_a_wrong_password_and_an_unknown_name_look_the_same(visit: Visit) -> None:
    visit(Role.SUBMITTER)
    wrong = visit().log_in("test-submitter", "not this one at all")
    unknown = visit().log_in("nobody", "not this one at all")
    assert wrong.status_code == unknown.status_code == 401
    assert said(wrong) == said(unknown) == "Name or password is wrong, or the account is closed."
    assert 'value="test-submitter"' in wrong.text, "the name need not be typed again"
    assert "not this one at all" not in wrong.text


def test_too_many_failures_bring_a_pause(visit: Visit) -> None:
    visit(Role.SUBMITTER)
    visitor = visit()
    for _ in range(8):
        assert visitor.log_in("test-submitter", "not this one at all").status_code == 401
    paused = visitor.log_in("test-submitter")
    assert paused.status_code == 429
    assert 0 < int(paused.headers["Retry-After"]) <= 300
    assert "Wait 5 minutes" in said(paused)


def test_empty_fields_are_told_apart_from_wrong_ones(visit: Visit) -> None:
    empty = visit().log_in("", "")
    assert empty.status_code == 422
    assert said(empty) == "Fill in both the name and the password."


def test_a_forged_form_is_refused(visit: Visit) -> None:
    visit(Role.SUBMITTER)
    refused = visit().post("/login", token="forged", username="test-submitter", password=PASSWORD)
    assert refused.status_code == 403
    assert "security token" in refused.text


def test_logout_ends_the_session_for_every_copy_of_the_cookie(visit: Visit) -> None:
    visitor = visit(Role.SUBMITTER)
    cookie = visitor.client.get_cookie("neurosight")
    assert cookie is not None
    token = visitor.token()
    assert visitor.post("/logout", token=token).location == "/login"
    thief = visit()
    thief.client.set_cookie("neurosight", cookie.value)
    assert thief.get("/jobs").location == "/login?next=%2Fjobs"
    assert visitor.post("/logout").location == "/login", "harmless when it had ended"


def test_a_one_time_password_opens_only_the_page_that_changes_it(visit: Visit, database: Database) -> None:
    with database.write() as session:
        accounts.create_user(session, "new", PASSWORD, Role.ADMIN, by=SYSTEM, must_change_password=True)
    visitor = visit()
    assert visitor.log_in("new").location == "/password"
    for path in ("/", "/jobs", "/submit", "/account", "/admin/users"):
        assert visitor.get(path).location == "/password", path
    page = visitor.get("/password")
    assert "one-time password" in said(page)
    assert "/jobs" not in page.text, "no menu whose entries lead nowhere"

    chosen = "another long password"
    assert "old password is wrong" in said(visitor.post("/password", old="wrong one here", new=chosen, again=chosen))
    assert "differ" in said(visitor.post("/password", old=PASSWORD, new=chosen, again=chosen + "!"))
    assert "expected 12 to 256" in said(visitor.post("/password", old=PASSWORD, new="short", again="short"))
    assert "is the old one" in said(visitor.post("/password", old=PASSWORD, new=PASSWORD, again=PASSWORD))

    assert visitor.post("/password", old=PASSWORD, new=chosen, again=chosen).location == "/"
    assert visitor.get("/account").status_code == 200
    assert visit().log_in("new", PASSWORD).status_code == 401
    assert visit().log_in("new", chosen).location == "/"


def test_a_new_password_ends_the_other_sessions_and_keeps_this_one(visit: Visit) -> None:
    here, elsewhere = visit(Role.SUBMITTER), visit(Role.SUBMITTER)
    chosen = "another long password"
    assert here.post("/password", old=PASSWORD, new=chosen, again=chosen).location == "/account"
    assert here.get("/account").status_code == 200
    assert elsewhere.get("/account").location.startswith("/login")


def test_the_start_page_is_the_submission_until_something_was_sent(visit: Visit) -> None:
    visitor = visit(Role.SUBMITTER)
    assert visitor.get("/").location == "/submit"
    assert visitor.post("/submit/sample", sample="four").location.startswith("/jobs/")
    assert visitor.get("/").location == "/studies"
    assert visit(Role.CLINICIAN).get("/").location == "/studies"


def test_the_language_is_remembered_in_the_browser_and_in_the_account(visit: Visit) -> None:
    anonymous = visit()
    assert anonymous.post("/language", locale="id", next="/login").location == "/login"
    assert '<html lang="id">' in anonymous.get("/login").text
    assert anonymous.post("/language", locale="xx", next="//elsewhere.example").location == "/"
    assert '<html lang="id">' in anonymous.get("/login").text

    user = visit(Role.SUBMITTER)
    assert user.post("/language", locale="id", next="/account/tokens?").location == "/", "that address opens no page"
    assert user.post("/language", locale="id", next="/account").location == "/account"
    assert '<html lang="id">' in visit(Role.SUBMITTER).get("/account").text, "another browser of the same user"
