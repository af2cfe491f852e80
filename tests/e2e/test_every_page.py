"""What holds on every page: no accessibility fault, no horizontal scrolling on a phone, nothing left in English."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page
from sqlalchemy import select

from db.jobs import Job
from db.states import Role
from ops import catalogues
from tests.e2e.conftest import Visitor
from tests.e2e.site import Site
from tests.e2e.world import World

pytestmark = pytest.mark.browser

STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def faults(page: Page) -> list[str]:
    """axe-core's violations, one line each."""
    results: Any = Axe().run(page, options={"runOnly": {"type": "tag", "values": STANDARDS}}).response
    return [
        f"{violation['id']} ({violation['impact']}): {json.dumps(node['target'])} {node['failureSummary']}"
        for violation in results["violations"]
        for node in violation["nodes"][:5]
    ]


def tour(visit: Callable[..., Visitor], world: World, **how: Any) -> "list[tuple[str, Page, Visitor]]":
    """Windows of every role, and each page with the window that may see it."""
    windows: dict[Role | None, Visitor] = {}
    stops = []
    for address, role in world.addresses().items():
        if role not in windows:
            windows[role] = visit(role, **how)
        stops.append((address, windows[role].page, windows[role]))
    return stops


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_no_accessibility_fault(visit: Callable[..., Visitor], world: World, scheme: str, phone: bool) -> None:
    found = {}
    for address, page, visitor in tour(visit, world, scheme=scheme, phone=phone):
        visitor.go(address)
        page.wait_for_load_state("networkidle")
        if violations := faults(page):
            found[address] = violations
    assert found == {}, json.dumps(found, indent=1)


def test_a_phone_never_scrolls_sideways(visit: Callable[..., Visitor], world: World) -> None:
    wide = {}
    for address, page, visitor in tour(visit, world, phone=True):
        visitor.go(address)
        width, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        if width > window or window > 390:
            wide[address] = (width, window)
    assert wide == {}


def test_indonesian_leaves_nothing_in_english(visit: Callable[..., Visitor], world: World, site: Site) -> None:
    english = {
        str(text)
        for message in catalogues.read("id")
        if message.id
        for text, other in zip(_forms(message.id), _forms(message.string), strict=False)
        if text != other
    }
    with site.database.read() as session:
        english -= set(session.scalars(select(Job.title)))  # as another test sent them, in the language of its sender
    left = {}
    for address, page, visitor in tour(visit, world, locale="id-ID"):
        visitor.go(address)
        assert page.locator("html").get_attribute("lang") == "id", address
        texts = page.evaluate(_TEXTS)
        if found := sorted(set(texts) & english):
            left[address] = found
    assert left == {}


def test_every_page_with_results_says_research_use_only(visit: Callable[..., Visitor], world: World) -> None:
    for address, page, visitor in tour(visit, world):
        visitor.go(address)
        assert page.get_by_text("Research use only").count() > 0, address


def _forms(text: object) -> list[object]:
    return list(text) if isinstance(text, (tuple, list)) else [text]


_TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) found.push(walker.currentNode.textContent.trim());
  for (const element of document.querySelectorAll("[aria-label], [title], [placeholder], [alt]"))
    for (const name of ["aria-label", "title", "placeholder", "alt"])
      if (element.hasAttribute(name)) found.push(element.getAttribute(name).trim());
  found.push(document.title.replace(/ – NeuroSight$/, ""));
  return found.filter((text) => text);
}"""
