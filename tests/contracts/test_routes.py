"""Every route x every role x own and foreign objects, as `route_table.py` says; and the audit row of every denial."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select

from config.queues import TASK_EXPORT_RUN
from config.settings import Settings
from db.checkpoints import Checkpoint
from db.datasets import DatasetSample
from db.exchange import Content, Peer, PeerKind, Retrieval, Sending
from db.jobs import Job
from db.predictions import Prediction
from db.queries import accounts, imports, promotions
from db.queries.audit import SYSTEM
from db.registry import CheckpointImport, Comparison, ShadowRun
from db.states import JobState, Purpose, RequestState, Role
from db.studies import Instance
from db.users import User
from tests import training_world
from tests.contracts.route_table import ROUTES, Row
from tests.web_world import PASSWORD, Person, World
from tests.work_rig import models_folder, promote_tiny
from web import create_app
from web.access import Access, UndeclaredAccess, check_declared, declared, public, requires
from web.services import services

MISSING = uuid.UUID("00000000-0000-4000-8000-000000000000")


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    """Ann and bob (submitters), clara (clinician), ada (admin)."""
    changed = settings.model_copy(update={"models_dir": models_folder(tmp_path / "models"), "retry_delay_s": 0.0})
    promote_tiny(changed)
    made = World(create_app(changed), changed)
    roles = {"ann": Role.SUBMITTER, "bob": Role.SUBMITTER, "clara": Role.CLINICIAN, "ada": Role.ADMIN}
    for username, role in roles.items():
        made.add(username, role)
    yield made
    made.close()


def walked(app: Flask) -> set[tuple[str, str]]:
    """(method, rule) of every route."""
    return {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_the_table_names_every_route_and_no_other(sqlite_url: str, tmp_path: Path) -> None:
    app = create_app(Settings(var_dir=tmp_path, database_url=sqlite_url))
    assert walked(app) - set(ROUTES) == set(), "new routes: decide who may call them, in route_table.py"
    assert set(ROUTES) - walked(app) == set(), "rows without a route"
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            access = declared(app, rule.endpoint)
            assert access is not None
            assert access.role == ROUTES[method, rule.rule].role, (method, rule.rule)


def test_an_undeclared_route_stops_the_start() -> None:
    app = Flask("undeclared")
    app.add_url_rule("/open", "open", public(lambda: "x"))
    app.add_url_rule("/closed", "closed", requires(Role.ADMIN)(lambda: "x"))
    check_declared(app)
    assert declared(app, "closed") == Access(Role.ADMIN)
    app.add_url_rule("/forgotten", "forgotten", lambda: "x")
    with pytest.raises(UndeclaredAccess, match=r"forgotten.*expected @requires"):
        check_declared(app)


class Objects:
    """Objects of ann's, made anew where a request uses them up."""

    def __init__(self, world: World) -> None:
        self.world, self.ann = world, world.people["ann"]
        job = world.finished(self.ann)
        self.job, self.study = job["id"], job["studies"][0]["id"]
        results = world.json(self.ann, job["studies"][0]["links"]["results"])
        self.slice = results["slices"][0]["id"]
        self.prediction = results["slices"][0]["prediction"]["id"]
        answer = world.ask(self.ann, "POST", f"/api/v1/predictions/{self.prediction}/reproduce")
        self.reproduction = (answer.json or {})["id"]
        with world.database.write() as db:
            user = db.get_one(User, self.ann.id)
            self.token = accounts.create_token(db, user, "to be revoked", by=SYSTEM, expires_at=None)[0].id
            # An account that nobody uses here, for what admins do to accounts.
            self.user = accounts.create_user(db, "zoe", PASSWORD, Role.SUBMITTER, by=SYSTEM).id
            # A model that nothing depends on, for what admins do to models.
            spare = Checkpoint(
                name="spare", digest="5" * 64, location="blob:" + "5" * 64, network="tiny", class_names=[], manifest={}
            )
            db.add(spare)
            db.flush()
            self.checkpoint = spare.id
        answer = world.ask(self.ann, "POST", "/api/v1/uploads", json={})
        self.upload = (answer.json or {})["id"]
        trained = training_world.plant(world.database, scenarios="light.yaml")
        self.sweep, self.run, self.mistake = trained.finished, trained.runs[0], trained.mistake
        self.dataset = trained.dataset
        with world.database.write() as db:
            digest = db.get_one(Instance, uuid.UUID(self.slice)).content_sha256
            serving = promotions.newest_promotion(db)
            assert serving is not None
            # What admins have asked of the spare model, settled: what is asked for is found.
            shadow = Job(purpose=Purpose.SHADOW, state=JobState.SUCCEEDED, checkpoint_id=self.checkpoint)
            taken_in = CheckpointImport(kind="artefact", file_name="x", sha256="6" * 64, state=RequestState.FAILED)
            db.add_all([shadow, taken_in])
            db.flush()
            self.taken_in = taken_in.id
            pair = {"candidate_id": self.checkpoint, "reference_id": serving.checkpoint_id}
            db.add(Comparison(**pair, state=RequestState.FAILED))
            db.add(ShadowRun(**pair, job_id=shadow.id, studies=1))
            # An archive that nobody answers at, and a sending to it that failed.
            peer = Peer(name="nobody", kind=PeerKind.DIMSE, ae_title="NOBODY", host="127.0.0.1", port=1)
            db.add(peer)
            db.flush()
            self.peer = peer.id
            listed = Retrieval(peer_id=peer.id, peer_name=peer.name, requested_by_id=self.ann.id)
            db.add(listed)
            db.flush()
            self.retrieval = listed.id
            sent = Sending(
                study_id=uuid.UUID(self.study),
                peer_id=peer.id,
                peer_name=peer.name,
                checkpoint_id=serving.checkpoint_id,
                content=Content.REPORT,
                state=RequestState.FAILED,
            )
            db.add(sent)
            db.flush()
            self.sending = sent.id
            imports.registry_item(db, TASK_EXPORT_RUN, {"run_id": str(self.run)}, 1)
            db.add(DatasetSample(dataset_id=self.dataset, sequence=0, file="a.png", label="glioma", sha256=digest))

    def address(self, rule: str) -> str:
        """The rule with ann's objects."""
        mine = ("job", "study", "slice", "prediction", "reproduction", "upload", "token", "user")
        for name in (*mine, "checkpoint", "sweep", "run", "mistake", "dataset", "peer", "sending", "retrieval"):
            rule = rule.replace(f"<uuid:{name}_id>", str(getattr(self, name)))
        rule = rule.replace("<uuid:import_id>", str(self.taken_in)).replace("<int:sequence>", "0")
        rule = rule.replace("<string:study_uid>", "2.25.1")
        rule = rule.replace("<path:filename>", "nothing-of-this-name")
        return f"{rule}?path=x" if rule.endswith("/files") else rule


def may_see(who: Person, row: Row) -> bool:
    """Whether somebody may see ann's object of this row."""
    if row.kind in ("upload", "token"):
        return who.username == "ann"
    if row.kind in ("job", "study", "slice", "prediction", "retrieval"):
        return who.username == "ann" or who.role.includes(Role.CLINICIAN)
    return True


def test_every_route_for_every_role(world: World) -> None:
    services(world.app).denials.window_s = 0.0  # each refusal of an unknown visitor is a row: they are counted here
    objects = Objects(world)
    people: list[Person | None] = [None, *(world.people[name] for name in ("bob", "clara", "ada", "ann"))]
    wrong: list[str] = []

    def check(what: str, right: bool) -> None:
        if not right:
            wrong.append(what)

    # What uses an object up comes last.
    final = ("DELETE", "/complete", "/revoke", "/cancel", "/logout", "/disable", "/password", "/delete", "/remove")
    rows = sorted(ROUTES.items(), key=lambda item: any(word in " ".join(item[0]) for word in final))
    for (method, rule), row in rows:
        address = objects.address(rule)
        for who in people:
            denials = world.audited(outcome="denied")
            answer = world.ask(who, method, address, headers={"Accept": "application/json"})
            status, code = (
                answer.status_code,
                (answer.json or {}).get("code", "") if answer.is_json and answer.data else "",
            )
            answer.close()
            denied = world.audited(outcome="denied") - denials
            name = f"{method} {rule} as {who.username if who else 'nobody'}: {status} {code}, {denied} denials"
            if row.role is None:
                check(name, status not in (401, 500) and (code != "role"))
            elif who is None:
                check(name, status == 401 and denied == 1)
            elif not who.role.includes(row.role):
                check(name, status == 403 and code == "role" and denied == 1)
            elif not may_see(who, row):
                check(name, status == 404 and denied == (0 if row.kind == "token" else 1))
            else:
                check(name, status not in (401, 403, 404, 405, 500) or (rule == "/submit/sample" and status == 404))
                check(name, denied == 0 or rule == "/password")  # a wrong old password is in the trail too
    assert wrong == []


def test_what_does_not_exist_looks_like_what_is_not_yours(world: World) -> None:
    objects = Objects(world)
    bob = world.people["bob"]
    for (method, rule), row in ROUTES.items():
        if row.kind not in ("job", "study", "slice", "prediction", "upload") or not rule.startswith("/api"):
            continue
        if row.role != Role.SUBMITTER:
            continue  # his role decides before the object does
        foreign = world.ask(bob, method, objects.address(rule))
        address = objects.address(rule)
        for value in (objects.job, objects.study, objects.slice, objects.prediction, objects.upload):
            address = address.replace(str(value), str(MISSING))
        missing = world.ask(bob, method, address)
        assert foreign.status_code == missing.status_code == 404, rule
        without = [{**(answer.json or {}), "request_id": ""} for answer in (foreign, missing)]
        assert without[0] == without[1], rule


def test_other_methods_are_refused(world: World) -> None:
    ann = world.people["ann"]
    assert world.ask(ann, "DELETE", "/api/v1/jobs").status_code == 405
    assert world.ask(ann, "PATCH", "/api/v1/me").status_code == 405
    assert world.ask(None, "HEAD", "/api/v1/me").status_code == 401
    assert world.ask(None, "OPTIONS", "/api/v1/me").text == ""


def test_when_the_audit_cannot_be_written_nothing_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects(world)
    from sqlalchemy.exc import OperationalError

    from db.queries import audit

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    monkeypatch.setattr(audit, "record", fail)
    clara, bob = world.people["clara"], world.people["bob"]
    for who in (clara, bob):
        for address in (f"/api/v1/studies/{objects.study}/results", f"/api/v1/jobs/{objects.job}/receipt.csv"):
            answer = world.ask(who, "GET", address)
            assert (answer.status_code, (answer.json or {})["code"]) == (503, "database_busy")


def test_every_view_of_a_study_is_in_the_audit_trail(world: World) -> None:
    objects = Objects(world)
    clara = world.people["clara"]
    before = world.audited("study.view", "ok", objects.study)
    world.json(clara, f"/api/v1/studies/{objects.study}")
    world.json(clara, f"/api/v1/studies/{objects.study}/results")
    assert world.audited("study.view", "ok", objects.study) == before + 2
    world.ask(clara, "GET", f"/api/v1/studies/{objects.study}/results.csv").close()
    assert world.audited("study.export", "ok", objects.study) == 1
    # The pictures of a page that was just noted belong to that view ...
    world.ask(clara, "GET", f"/api/v1/slices/{objects.slice}/image.png").close()
    assert world.audited("study.view", "ok", objects.study) == before + 2
    # ... and one that comes alone is a view.
    world.ask(world.people["ada"], "GET", f"/api/v1/slices/{objects.slice}/image.png").close()
    assert world.audited("study.view", "ok", objects.study) == before + 3


def test_a_file_that_names_the_study_of_another_opens_nothing(world: World) -> None:
    """Bob sends one of ann's pictures: he sees that slice's result, since he has its bytes, and no other."""
    ann, bob = world.people["ann"], world.people["bob"]
    from tests.work_rig import pictures

    files = pictures(3)
    job = world.finished(ann, files)
    one = next(iter(files))
    again = world.finished(bob, {one: files[one]})
    theirs = world.json(ann, job["studies"][0]["links"]["results"])["slices"]
    for study in again["studies"]:
        seen = world.json(bob, study["links"]["results"])["slices"]
        assert len(seen) == 1
    with world.database.read() as db:
        hidden = db.scalars(
            select(Prediction.id).where(Prediction.id.in_([uuid.UUID(row["prediction"]["id"]) for row in theirs]))
        ).all()
    statuses = [world.ask(bob, "GET", f"/api/v1/predictions/{number}/receipt").status_code for number in hidden]
    assert statuses.count(404) >= 2
