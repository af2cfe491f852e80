"""Decisions about studies, the order of the worklist, and who gets a study that two people want."""

import uuid
from collections.abc import Sequence

import pytest
from sqlalchemy import select

from db.checkpoints import Checkpoint
from db.predictions import Prediction
from db.queries import agreement, reviews, standings, study_decisions, worklist
from db.queries.agreement import Reading
from db.queries.study_decisions import ChangedSince, GivenBefore, NotSigned
from db.queries.worklist import Wanted
from db.reviews import DecisionKind
from db.session import Database
from db.standings import ReviewState, StudyStanding
from db.states import Role
from db.studies import Instance, Series, Study, StudyIdentity
from db.upserts import insert_missing
from tests import standing_truth
from tests.work_rig import make_user


def a_study(database: Database, said: Sequence[tuple[str, float]], patient: str = "") -> uuid.UUID:
    """A study of which each slice has this class with this probability."""
    with database.write() as session:
        checkpoint = session.query(Checkpoint).first() or Checkpoint(
            name="m", digest="d", location="models:m", network="n", class_names=[], manifest={}
        )
        session.add(checkpoint)
        study = Study(study_key=f"files:{uuid.uuid4()}", title=f"Head of {patient}")
        session.add(study)
        session.flush()
        if patient:
            session.add(StudyIdentity(study_id=study.id, patient_id=patient, patient_name=f"{patient}^Some"))
        series = Series(study_id=study.id, series_key="s", plane="axial")
        session.add(series)
        session.flush()
        for number, (name, probability) in enumerate(said):
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
            session.add(
                Prediction(
                    instance_id=one.id,
                    checkpoint_id=checkpoint.id,
                    class_name=name,
                    probability=probability,
                    probabilities={name: probability},
                    scores=[0.0],
                    input_sha256="0" * 64,
                    engine="e",
                    code_version="c",
                )
            )
        session.flush()
        insert_missing(session, StudyStanding, [{"study_id": study.id}])
        standings.refresh(session, [study.id])
    return study.id


def at(database: Database, study_id: uuid.UUID) -> StudyStanding:
    with database.read() as session:
        return session.get_one(StudyStanding, study_id)


def test_the_most_urgent_study_comes_first_and_next_goes_on(database: Database) -> None:
    clear = a_study(database, [("no_tumor", 0.99)], "P1")
    doubtful = a_study(database, [("glioma", 0.4), ("no_tumor", 0.9)], "P2")
    weak = a_study(database, [("glioma", 0.6)], "P3")
    strong = a_study(database, [("meningioma", 0.97), ("no_tumor", 0.9)], "P4")
    me, other = make_user(database, Role.CLINICIAN), make_user(database, Role.CLINICIAN)
    expected = [strong, weak, doubtful, clear]
    with database.read() as session:
        assert [row.study.id for row in worklist.page(session, Wanted()).rows] == expected
        assert [row.study.id for row in worklist.page(session, Wanted(order="oldest")).rows] == [
            clear,
            doubtful,
            weak,
            strong,
        ]
        order: list[uuid.UUID | None] = [None]
        for _ in expected:
            order.append(worklist.next_study(session, me, order[-1]))
        assert order[1:] == expected
        assert worklist.next_study(session, me, clear) == strong, "after the last the first again"
        assert worklist.next_study(session, me, strong, backwards=True) == clear
        found = [worklist.page(session, Wanted(text=text)).total for text in ("p4^some", "P4", "head of p", "P_")]
        assert found == [1, 1, 4, 0]
        some = worklist.page(session, Wanted(finding="tumour", class_name="glioma"))
        assert [(row.study.id, row.standing.peak_probability) for row in some.rows] == [(weak, 0.6)]
        assert worklist.page(session, Wanted(reviewer=me)).total == 0
    with database.write() as session:
        assert worklist.assign(session, [strong, weak], other).studies == sorted([strong, weak])
    with database.write() as session:
        taken = worklist.assign(session, [strong, doubtful], me, only_free_for=me)
        assert taken.studies == [doubtful]
        assert len(taken.held_by) == 1
    with database.read() as session:
        assert worklist.next_study(session, me, None) == doubtful, "what is another's is not read"
        assert worklist.counts(session, me) == {"waiting": 4, "mine": 1, "nobody": 1}
        assert {row.study.id for row in worklist.page(session, Wanted(assigned=other)).rows} == {strong, weak}
        assert {row.study.id for row in worklist.page(session, Wanted(assigned=worklist.NOBODY)).rows} == {clear}


def test_whoever_signs_has_seen_what_he_signs(database: Database) -> None:
    study = a_study(database, [("glioma", 0.9), ("glioma", 0.8)])
    clara, carl = make_user(database, Role.CLINICIAN), make_user(database, Role.CLINICIAN)
    opened = at(database, study).version
    with database.read() as session:
        one = session.query(Instance.id).filter_by(study_id=study).first()
        assert one is not None
    with database.write() as session:
        reviews.decide(session, one[0], "meningioma", by=carl, seen=None)
        before, after = standings.decided(session, study)
        assert (before, after > before) == (opened, True)
    assert (at(database, study).decided, at(database, study).disagreed) == (1, 1)
    with database.write() as session, pytest.raises(ChangedSince, match="look at it again"):
        study_decisions.sign_off(session, study, "glioma", by=clara, version=opened)
    with database.write() as session:
        study_decisions.sign_off(session, study, "glioma", by=clara, version=after, note=" sure ")
    row = at(database, study)
    assert (row.review_state, row.reviewed_by_id) == (ReviewState.SIGNED, clara)
    with database.read() as session:
        assert worklist.next_study(session, clara, None) is None
        assert worklist.page(session, Wanted(state="signed", reviewer=clara)).total == 1
        assert study_decisions.history(session, study)[0].note == "sure"
    with database.write() as session:  # a slice is corrected after the sign-off
        reviews.decide(session, one[0], "glioma", by=carl, seen=None)
        standings.decided(session, study)
    assert at(database, study).review_state == ReviewState.CHANGED
    with database.write() as session, pytest.raises(ChangedSince, match="look at it again"):
        study_decisions.reopen(session, study, by=carl, version=row.version)
    with database.write() as session:
        study_decisions.reopen(session, study, by=carl, version=at(database, study).version)
    with database.write() as session, pytest.raises(NotSigned, match="nobody"):
        study_decisions.reopen(session, study, by=carl, version=at(database, study).version)
    assert at(database, study).review_state == ReviewState.BEGUN
    with database.read() as session:
        assert [item.kind for item in study_decisions.history(session, study)] == [
            DecisionKind.REOPENED,
            DecisionKind.SIGN_OFF,
        ]
    standing_truth.assert_true(database)


def test_an_opinion_is_given_once_and_ends_no_sign_off(database: Database) -> None:
    study = a_study(database, [("glioma", 0.9)])
    clara, carl = make_user(database, Role.CLINICIAN), make_user(database, Role.CLINICIAN)
    with database.write() as session:
        study_decisions.give_opinion(session, study, "no_tumor", by=clara)
    with database.write() as session, pytest.raises(GivenBefore, match="before"):
        study_decisions.give_opinion(session, study, "glioma", by=clara)
    assert at(database, study).review_state == ReviewState.BEGUN
    with database.read() as session:
        assert study_decisions.opinions_of(session, clara, [study]) == {study}
        assert study_decisions.opinions_of(session, carl, [study]) == set()
    with database.write() as session:
        study_decisions.sign_off(session, study, "glioma", by=clara, version=at(database, study).version)
    with database.write() as session:
        study_decisions.give_opinion(session, study, "glioma", by=carl)
    assert at(database, study).review_state == ReviewState.SIGNED
    standing_truth.assert_true(database)


def test_agreement_is_counted_by_reading_and_what_is_open_is_left_out(database: Database) -> None:
    study = a_study(database, [("glioma", 0.9), ("glioma", 0.8), ("no_tumor", 0.9)])
    doubtful = a_study(database, [("glioma", 0.4)])
    clara, carl = make_user(database, Role.CLINICIAN), make_user(database, Role.CLINICIAN)
    with database.write() as session:
        slices = session.scalars(select(Instance.id).where(Instance.study_id == study).order_by(Instance.path)).all()
        for one, label in zip(slices, ("glioma", "meningioma", ""), strict=True):
            reviews.decide(session, one, label, by=clara, seen=None)
        session.scalars(select(Prediction).where(Prediction.instance_id == slices[1])).one().class_name = "meningioma"
        reviews.decide(session, slices[2], "no_tumor", by=clara, seen=None)
        reviews.decide(session, slices[1], "pituitary", by=clara, seen=None)
        for one in (study, doubtful):
            study_decisions.give_opinion(session, one, "no_tumor", by=carl)
            row = standings.held(session, one)
            assert row is not None
            study_decisions.sign_off(session, one, "glioma", by=clara, version=row.version)
    with database.read() as session:
        (sliced,) = agreement.by_model(session, Reading.SLICES)
        (signed,) = agreement.by_model(session, Reading.STUDIES)
        (first,) = agreement.by_model(session, Reading.OPINIONS)
        assert sliced.matrix == {("glioma", "glioma"): 1, ("no_tumor", "no_tumor"): 1, ("pituitary", "meningioma"): 1}
        assert signed.matrix == {("glioma", "glioma"): 1}, "of the doubtful study the network said nothing firm"
        assert first.matrix == {("no_tumor", "glioma"): 1}
        assert [month.kappa.pairs for month in sliced.months] == [3]
        assert sum(row["count"] for row in agreement.csv_rows(session)) == 5


def test_kappa_by_hand() -> None:
    found = agreement.kappa({("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15})
    assert (found.pairs, found.agreed, found.by_chance) == (50, 0.7, 0.5)  # 0.5 x 0.6 + 0.5 x 0.4
    assert found.value == pytest.approx(0.4)
    assert found.low == pytest.approx(0.146, abs=1e-3)
    assert found.high == pytest.approx(0.654, abs=1e-3)
    assert agreement.kappa({("a", "a"): 9}).value is None, "one class alone says nothing about chance"
    assert agreement.kappa({}).pairs == 0
