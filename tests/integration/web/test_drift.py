"""Drift: distances from the reference, on both databases; the reference as training writes it; page and metrics."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from db.base import utc_now
from db.checkpoints import Checkpoint
from db.predictions import Prediction
from db.queries import drift
from db.session import Database
from db.studies import Instance, Series, Study
from tests.web_world import World

REFERENCE: dict[str, Any] = {
    "slices": 400,
    "answers": {"glioma": 200, "no_tumor": 190, "abstained": 10},
    "measures": {
        "probability": {"edges": [0.8, 0.95], "counts": [40, 80, 280]},
        "distance": {"edges": [0.4, 0.7], "counts": [130, 140, 130]},
        "border": {"edges": [], "counts": [400]},
    },
}


@pytest.fixture
def checkpoint(database: Database) -> Checkpoint:
    with database.write() as session:
        made = Checkpoint(
            digest="ab" * 32,
            name="watched",
            location="models:watched.neurosight",
            network="tiny",
            class_names=["glioma", "no_tumor"],
            manifest={"guard": {"record": {"reference": REFERENCE}}},
        )
        session.add(made)
        session.flush()
        return made


def slices(
    database: Database,
    checkpoint: Checkpoint,
    count: int,
    *,
    weeks_ago: float,
    maker: str = "Acme",
    sequence: str = "T1",
    distance: float = 0.5,
    probability: float = 0.97,
    abstention: str = "",
) -> None:
    """Results of one study, every other one a glioma."""
    with database.write() as session:
        study = Study(study_key=f"test:{uuid.uuid4()}")
        session.add(study)
        session.flush()
        facts = {"manufacturer": maker, "manufacturer_model": "One", "field_strength_tesla": 1.5, "sequence": sequence}
        series = Series(study_id=study.id, series_key="1", facts=facts)
        session.add(series)
        session.flush()
        for number in range(count):
            instance = Instance(
                study_id=study.id, series_id=series.id, content_sha256=uuid.uuid4().hex * 2, size_bytes=1, kind="png",
                path="x.png", rows=8, columns=8,
            )  # fmt: skip
            session.add(instance)
            session.flush()
            session.add(
                Prediction(
                    instance_id=instance.id,
                    checkpoint_id=checkpoint.id,
                    class_name=("glioma", "no_tumor")[number % 2],
                    probability=probability,
                    probabilities={},
                    scores=[],
                    input_sha256="",
                    abstention=abstention,
                    guard={"distance": distance + 0.3 * (number % 3 - 1), "border": 0.0},
                    engine="",
                    code_version="",
                    created_at=utc_now() - timedelta(weeks=weeks_ago),
                )
            )


def test_the_index_by_hand() -> None:
    # (0.5 - 0.75) ln(0.5 / 0.75) + (0.5 - 0.25) ln(0.5 / 0.25) = 0.2747, a little less for the half slices.
    assert drift.stability_index({"a": 7500, "b": 2500}, {"a": 500, "b": 500}) == pytest.approx(0.2747, abs=1e-3)
    assert drift.stability_index({"a": 50, "b": 50}, {"a": 5000, "b": 5000}) == pytest.approx(0, abs=1e-9)
    assert drift.stability_index({"a": 100}, {"b": 100}) > 5


def test_a_new_scanner_stands_out_and_a_known_one_does_not(database: Database, checkpoint: Checkpoint) -> None:
    slices(database, checkpoint, 60, weeks_ago=0.5)
    slices(database, checkpoint, 60, weeks_ago=1.5, maker="Novum", distance=1.6, probability=0.5)
    slices(database, checkpoint, 20, weeks_ago=2.5, maker="Rare")
    slices(database, checkpoint, 90, weeks_ago=6.5)
    slices(database, checkpoint, 9, weeks_ago=30)
    with database.read() as session:
        seen = drift.drift(session, checkpoint, by="scanner")
        earlier = drift.drift(session, checkpoint, by="sequence", against="before")
        week = drift.last_week(session, checkpoint)
    assert seen.has_reference
    assert [(group.name, group.slices) for group in seen.groups] == [
        ("Acme One 1.5 T", 60),
        ("Novum One 1.5 T", 60),
        ("Rare One 1.5 T", 20),
    ]
    known, new, rare = (group.indexes for group in seen.groups)
    assert known["distance"] is not None
    assert new["distance"] is not None
    assert new["probability"] is not None
    assert known["distance"] < drift.CHANGED
    assert new["distance"] > drift.LARGELY_CHANGED
    assert new["probability"] > drift.LARGELY_CHANGED
    assert known["border"] == 0
    assert set(rare.values()) == {None}, "too few to say"
    assert [week.slices for week in seen.weeks][-8:] == [0, 90, 0, 0, 0, 20, 60, 60], "the oldest first"
    assert seen.answers["glioma"] == (0.5, 0.5)
    assert [group.name for group in earlier.groups] == ["T1"]
    assert earlier.has_reference
    assert earlier.recent.indexes["answers"] == pytest.approx(0, abs=0.01)
    assert week.slices == 60
    assert week.indexes["distance"] == pytest.approx(known["distance"])


def test_what_is_not_answered_counts_as_an_answer_of_its_own(database: Database, checkpoint: Checkpoint) -> None:
    slices(database, checkpoint, 60, weeks_ago=0.1, abstention="unlike_training")
    with database.read() as session:
        seen = drift.drift(session, checkpoint, by="sender")
    (group,) = seen.groups
    assert (group.name, group.abstained) == ("", 60)
    assert seen.answers["abstained"] == (1.0, 0.025)
    assert group.worst > drift.LARGELY_CHANGED


def test_without_a_reference_nothing_is_claimed(database: Database, checkpoint: Checkpoint) -> None:
    with database.write() as session:
        session.get_one(Checkpoint, checkpoint.id).manifest = {}
    slices(database, checkpoint, 60, weeks_ago=0.1)
    with database.read() as session:
        seen = drift.drift(session, session.get_one(Checkpoint, checkpoint.id), by="scanner")
    assert not seen.has_reference
    assert set(seen.recent.indexes.values()) == {None}
    assert seen.answers["glioma"] == (0.5, None)


def test_the_page_and_the_metrics_say_it(world: World) -> None:
    with world.database.read() as session:
        serving = session.scalars(select(Checkpoint)).first()
    assert serving is not None
    with world.database.write() as session:
        found = session.get_one(Checkpoint, serving.id)
        reference = {**REFERENCE, "answers": {found.class_names[0]: 390, "abstained": 10}}
        found.manifest = {**found.manifest, "guard": {"record": {"reference": reference}}}
    slices(world.database, serving, 60, weeks_ago=0.1, maker="Novum", distance=1.6)
    page = world.ask(world.people["ada"], "GET", "/admin/drift?by=scanner")
    text = page.get_data(as_text=True)
    assert page.status_code == 200
    assert "Novum One 1.5 T" in text
    assert "Much has changed in the last 4 weeks." in text
    assert world.ask(world.people["ada"], "GET", "/admin/drift?by=patient").status_code == 404
    metrics = world.ask(None, "GET", "/metrics").get_data(as_text=True)
    (line,) = [line for line in metrics.splitlines() if line.startswith('neurosight_drift_index{measure="distance"}')]
    assert float(line.split()[1]) > drift.LARGELY_CHANGED
    assert "neurosight_abstained_share 0.0" in metrics
