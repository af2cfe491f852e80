"""What holds on every page: no accessibility fault, no horizontal scrolling, the warning, nothing left in English."""

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
BY_COLOUR = ["color-contrast", "link-in-text-block"]
"""axe-core's rules that look at colours: all that a dark page can break that is well when it is light."""

_AXE = Axe().axe_script


def faults(page: Page, rules: list[str] | None = None) -> list[str]:
    """axe-core's violations of the standards, or of some rules, one line each."""
    page.evaluate(_AXE)
    only = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": STANDARDS}
    # What is well is neither described nor sent: that took most of the time.
    options = {"runOnly": only, "resultTypes": ["violations"]}
    violations: Any = page.evaluate("(options) => axe.run(options).then((results) => results.violations)", options)
    return [
        f"{violation['id']} ({violation['impact']}): {json.dumps(node['target'])} {node['failureSummary']}"
        for violation in violations
        for node in violation["nodes"][:5]
    ]


def settled(page: Page) -> None:
    """Waits until the page has drawn its slice and what it fetches by itself at its start is there."""
    page.wait_for_function(
        """() => !document.querySelector(".htmx-request")
          && [...document.querySelectorAll("canvas#overlay")].every((canvas) => canvas.dataset.drawn)"""
    )


def tour(visit: Callable[..., Visitor], world: World, **how: Any) -> "list[tuple[str, Page, Visitor]]":
    """Windows of every role, and each page with the window that may see it."""
    windows: dict[Role | None, Visitor] = {}
    stops = []
    for address, role in world.addresses().items():
        if role not in windows:
            windows[role] = visit(role, **how)
        stops.append((address, windows[role].page, windows[role]))
    return stops


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_no_accessibility_fault_nor_sideways_scrolling_and_the_warning(
    visit: Callable[..., Visitor], world: World, phone: bool
) -> None:
    found = {}
    for address, page, visitor in tour(visit, world, phone=phone):
        visitor.go(address)
        settled(page)
        violations = faults(page)
        page.emulate_media(color_scheme="dark")
        violations += [f"dark: {fault}" for fault in faults(page, BY_COLOUR)]
        page.emulate_media(color_scheme="light")
        width, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        if width > window or (phone and window > 390):
            violations.append(f"sideways: {width} px in a window of {window} px")
        if page.get_by_text("Research use only").count() == 0:
            violations.append("it does not say that it is for research only")
        if violations:
            found[address] = violations
    assert found == {}, json.dumps(found, indent=1)


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


def _forms(text: object) -> list[object]:
    return list(text) if isinstance(text, (tuple, list)) else [text]


_TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode())
    if (!walker.currentNode.parentElement.closest("code")) found.push(walker.currentNode.textContent.trim());
  for (const element of document.querySelectorAll("[aria-label], [title], [placeholder], [alt]"))
    for (const name of ["aria-label", "title", "placeholder", "alt"])
      if (element.hasAttribute(name)) found.push(element.getAttribute(name).trim());
  found.push(document.title.replace(/ – NeuroSight$/, ""));
  return found.filter((text) => text);
}"""
