"""A study that does not fit one page: every slice is on exactly one, in order, and a slice's address finds its page."""

import re

import pytest

from db.queries import standings, strips
from tests.web_world import World
from tests.work_rig import picture
from web.pages import studies

SLICE = re.compile(r'class="thumb[^"]*" id="thumb-([0-9a-f-]{36})"')


def test_a_large_study_is_shown_by_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "PAGE_SLICES", 4)
    monkeypatch.setattr(studies, "PAGE_SLICES", 4)
    monkeypatch.setattr(standings, "LARGE", 4)  # where it stands is computed when somebody looks
    clara = world.people["clara"]
    files = {
        f"s/{plane}/{n}.png": picture(10 * place + n) for place, plane in enumerate(("axial", "cor")) for n in range(5)
    }
    files["s/sag/0.png"] = picture(99)
    job = world.finished(clara, files)
    study = job["studies"][0]
    results = world.json(clara, study["links"]["results"])["slices"]
    assert len(results) == 11
    order = [item["id"] for item in results]
    assert "11 of 11 slices analysed" in world.ask(clara, "GET", "/studies").text

    def shown(query: str) -> list[str]:
        answer = world.ask(clara, "GET", f"/studies/{study['id']}?{query}")
        assert answer.status_code == 200, answer.text
        return SLICE.findall(answer.text)

    assert [shown(f"page={number}") for number in (1, 2, 3, 99)] == [order[:4], order[4:8], order[8:], order[8:]]
    for place, slice_id in enumerate(order):
        assert slice_id in shown(f"slice={slice_id}"), place
    text = world.ask(clara, "GET", f"/studies/{study['id']}?page=2").text
    assert "Page 2 of 3" in text
    assert 'data-before="4" data-total="11"' in text
    assert 'rel="prev"' in text
    assert 'rel="next"' in text
    assert "(1 of 5)" in text, "a series says how much of it is on the page"
    assert "(3 of 5)" in text

    answered = [item for item in results if not item["prediction"]["abstention"]]
    tumour = [item["id"] for item in answered if item["prediction"]["class_name"] != "no_tumor"]
    assert [
        found for number in range(1, -(-len(tumour) // 4) + 1) for found in shown(f"show=tumour&page={number}")
    ] == tumour
    assert shown("show=failed") == []
    # Without an address the page with the most suspicious slice comes first.
    leading = world.json(clara, study["links"]["self"])["summary"]["leading_class"]
    of_class = [item for item in answered if item["prediction"]["class_name"] == leading]
    assert max(of_class, key=lambda item: item["prediction"]["probability"])["id"] in shown("")
    assert world.ask(clara, "GET", f"/studies/{study['id']}?page=x").status_code == 404
