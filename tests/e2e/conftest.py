"""Fixtures of the browser tests: one running site, one Chromium, and pages that watch what goes wrong on them.

Every page of every test is watched: a script error, a breach of the content security policy, or a request that leaves
this machine fails the test. Without a browser the tests are skipped, saying so.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    StorageState,
    expect,
    sync_playwright,
)

from db.queries import accounts
from db.queries.audit import SYSTEM
from db.states import Role
from tests.e2e.site import Site
from tests.e2e.world import World, populate
from tests.servers import BrokerServer

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
PASSWORD = "a long password for tests"

_REPORT_CSP = """addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} refused ${event.blockedURI}, ${event.sourceFile}:${event.lineNumber}`))
"""


class Watch:
    """What a page did that it must not do."""

    def __init__(self, page: Page, origin: str) -> None:
        self._origin = origin
        self.expected_statuses: set[int] = set()
        """HTTP statuses from 400 on that the test brings about on purpose."""
        self.offline = False
        """Whether the test cuts the connection: then failed requests are no fault."""
        self.faults: list[str] = []
        page.on("request", self._request)
        page.on("response", self._response)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"script error: {error}"))

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self._origin + "/", "data:", "blob:")):
            self.faults.append(f"a request left the host: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected_statuses:
            self.faults.append(f"{response.status} {response.request.method} {response.url}")

    def _console(self, message: ConsoleMessage) -> None:
        # A failed load is judged by its status above.
        failed_load = message.text.startswith("Failed to load resource")
        if message.type in ("error", "warning") and not failed_load and not self.offline:
            self.faults.append(f"console {message.type}: {message.text}")


class Visitor:
    """A browser window of one user, watched."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.context, self.site = context, site
        self.page = context.new_page()
        self.watch = Watch(self.page, site.url)

    def go(self, path: str) -> Page:
        """Opens an address of the site."""
        self.page.goto(self.site.url + path)
        return self.page

    def log_in(self, username: str, password: str) -> Page:
        """Types name and password into the login page."""
        page = self.go("/login")
        page.locator("input[name=username]").fill(username)
        page.locator("input[name=password]").fill(password)
        page.locator("main form button[type=submit]").click()
        return page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium found on the PATH: install the package `chromium` to run the browser tests")
    expect.set_options(timeout=15_000)  # as for the windows: a busy machine is no fault of a page
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def site(browser: Browser, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One running installation for all browser tests; asks for the browser first, so as not to start in vain.

    Its broker is its own: it lives to the end of the session, and its workers would take other tests' messages.
    """
    folder = tmp_path_factory.mktemp("site")
    database = folder / "neurosight.db"
    shutil.copyfile(sqlite_template, database)
    broker = BrokerServer()
    try:
        with Site(folder, f"sqlite:///{database}", broker.url) as running:
            yield running
    finally:
        broker.close()


@pytest.fixture(scope="session")
def world(site: Site) -> World:
    """The site's content for tests that look at pages."""
    return populate(site)


@pytest.fixture(scope="session")
def logins() -> dict[Role, StorageState]:
    """What a browser keeps of the first login of each role."""
    return {}


@pytest.fixture
def visit(browser: Browser, site: Site, logins: dict[Role, StorageState]) -> Iterator[Callable[..., Visitor]]:
    """Opens windows: `visit(role)` is logged in as a user of that role, `visit()` is anonymous.

    A role's first window logs in by the page, the later ones go on with its cookie. A test that ends its session asks
    for one of its own, so that the others keep theirs.
    """
    opened: list[Visitor] = []

    def open_window(
        role: Role | None = None,
        *,
        locale: str = "en-GB",
        scheme: str = "light",
        phone: bool = False,
        scripts: bool = True,
        own_session: bool = False,
    ) -> Visitor:
        kept = None if role is None or own_session else logins.get(role)
        context = browser.new_context(
            storage_state=kept,
            viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type] # a TypedDict of the same shape
            locale=locale,
            color_scheme="dark" if scheme == "dark" else "light",
            has_touch=phone,
            is_mobile=phone,
            java_script_enabled=scripts,
            reduced_motion="reduce",
        )
        context.set_default_timeout(15_000)
        context.add_init_script(_REPORT_CSP)
        visitor = Visitor(context, site)
        opened.append(visitor)
        if role is not None:
            username = user_of(site, role)
            if kept is None:
                visitor.log_in(username, PASSWORD)
                visitor.page.wait_for_url(lambda url: "/login" not in url)
                if not own_session:
                    logins[role] = context.storage_state()
        return visitor

    yield open_window
    faults = [fault for visitor in opened for fault in visitor.watch.faults]
    for visitor in opened:
        visitor.context.close()
    assert faults == []


def user_of(site: Site, role: Role) -> str:
    """The name of the tests' user of a role, made when it is asked for first; he has chosen no language."""
    name = f"test-{role}"
    with site.database.write() as session:
        known = accounts.find_user(session, name)
        if known is None:
            accounts.create_user(session, name, PASSWORD, role, by=SYSTEM, display_name=f"Test {role}")
        else:
            known.locale = ""  # an earlier test may have chosen one
    return name
