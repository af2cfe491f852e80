"""Decisions about slices: the newest stands, nobody overwrites unseen, undo is a row; what a data set would hold."""

import uuid
from datetime import timedelta

import pytest

from db.base import utc_now
from db.queries import reviews
from db.queries.reviews import DecidedMeanwhile, Filter, NothingToUndo
from db.reviews import NOT_ASSESSABLE, WITHDRAWN
from db.session import Database
from db.states import Role
from db.studies import Instance, Series, Study, StudyIdentity
from tests.work_rig import make_user


def slices(database: Database, *patients: str, each: int = 1) -> list[uuid.UUID]:
    """Slices of one study a patient; without a name the study has no identity."""
    made = []
    with database.write() as session:
        for patient in patients:
            study = Study(study_key=f"files:{uuid.uuid4()}")
            session.add(study)
            session.flush()
            if patient:
                session.add(StudyIdentity(study_id=study.id, patient_id=patient))
            series = Series(study_id=study.id, series_key="s", plane="axial")
            session.add(series)
            session.flush()
            for number in range(each):
                one = Instance(
                    study_id=study.id,
                    series_id=series.id,
                    content_sha256=uuid.uuid4().hex * 2,
                    size_bytes=1,
                    kind="png",
                    path=f"{number}.png",
                    rows=8,
                    columns=8,
                )
                session.add(one)
                session.flush()
                made.append(one.id)
    return made


def decide(database: Database, slice_id: uuid.UUID, label: str, by: uuid.UUID, seen: uuid.UUID | None) -> uuid.UUID:
    with database.write() as session:
        return reviews.decide(session, slice_id, label, by=by, seen=seen).id


def standing(database: Database, slice_id: uuid.UUID) -> str | None:
    with database.read() as session:
        found = reviews.newest_of(session, [slice_id]).get(slice_id)
    return found.label if found else None


def test_the_newest_stands_and_every_row_stays(database: Database) -> None:
    (one,) = slices(database, "P1")
    clara, carl = make_user(database, Role.CLINICIAN), make_user(database, Role.CLINICIAN)
    first = decide(database, one, "glioma", clara, None)
    second = decide(database, one, NOT_ASSESSABLE, carl, first)
    assert standing(database, one) == NOT_ASSESSABLE
    with database.write() as session:
        reviews.undo(session, one, by=carl, seen=second)
    assert standing(database, one) == "glioma"
    with database.read() as session:
        assert [item.label for item in reviews.history(session, one)] == ["glioma", NOT_ASSESSABLE, "glioma"]
        study_id = session.get_one(Instance, one).study_id
        assert reviews.newest_of_study(session, study_id) == reviews.newest_of(session, [one])


def test_a_decision_that_was_not_seen_is_not_overwritten(database: Database) -> None:
    (one,) = slices(database, "P1")
    clara, carl = make_user(database, Role.CLINICIAN), make_user(database, Role.CLINICIAN)
    first = decide(database, one, "glioma", clara, None)
    with pytest.raises(DecidedMeanwhile, match="decided about meanwhile") as caught:
        decide(database, one, "meningioma", carl, None)
    assert (caught.value.newest.id, caught.value.newest.label) == (first, "glioma")
    assert standing(database, one) == "glioma"
    decide(database, one, "meningioma", carl, first)
    decide(database, one, "pituitary", carl, first)  # his own newer row is no surprise to him
    assert standing(database, one) == "pituitary"
    with database.write() as session, pytest.raises(DecidedMeanwhile, match="decided about meanwhile"):
        reviews.undo(session, one, by=clara, seen=first)


def test_taking_the_only_decision_back_leaves_none(database: Database) -> None:
    (one,) = slices(database, "P1")
    clara = make_user(database, Role.CLINICIAN)
    with database.write() as session, pytest.raises(NothingToUndo, match="no decision"):
        reviews.undo(session, one, by=clara, seen=None)
    first = decide(database, one, "glioma", clara, None)
    with database.write() as session:
        assert reviews.undo(session, one, by=clara, seen=first).label == WITHDRAWN
    assert standing(database, one) is None
    with database.write() as session, pytest.raises(NothingToUndo, match="no decision"):
        reviews.undo(session, one, by=clara, seen=None)


def test_a_data_set_holds_what_stands_grouped_by_patient(database: Database) -> None:
    ids = slices(database, "P1", "P1", "", each=2)
    clara = make_user(database, Role.CLINICIAN)
    labels = ["glioma", "meningioma", "glioma", NOT_ASSESSABLE, "pituitary"]
    seen = [decide(database, one, label, clara, None) for one, label in zip(ids, labels, strict=False)]
    decide(database, ids[0], "meningioma", clara, seen[0])
    with database.read() as session:
        whole = reviews.gathered(session, Filter())
        some = reviews.reviewed_slices(session, Filter(classes=("meningioma",)))
        later = reviews.gathered(session, Filter(since=utc_now() + timedelta(minutes=1)))
        earlier = reviews.gathered(session, Filter(until=utc_now() - timedelta(minutes=1)))
    assert (whole.slices, whole.patients) == (4, 2)  # two studies of P1, and one study of nobody known
    assert whole.classes == {"glioma": 1, "meningioma": 2, "pituitary": 1}
    assert {item.instance_id for item in some} == set(ids[:2])
    assert {item.plane for item in some} == {"axial"}
    assert later.slices == earlier.slices == 0


def test_a_filter_makes_the_round_trip() -> None:
    wanted = Filter(utc_now(), None, ("glioma", "no_tumor"))
    assert Filter.from_json(wanted.to_json()) == wanted
    assert Filter.from_json({}) == Filter()
