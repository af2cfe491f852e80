"""The OpenAPI document: valid, equal to the routes in both directions, and true of real answers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from config.settings import Settings
from db.states import Role
from tests.dataset_rig import class_folders
from tests.training_world import plant
from tests.web_world import Person, World
from tests.work_rig import models_folder, promote_tiny
from web import create_app
from web.services import services

METHODS = {"get", "put", "post", "delete", "patch"}
OWN = {"/api/v1/openapi.json", "/api/v1/docs", "/api/v1/docs/static/{filename}"}


@pytest.fixture
def app(sqlite_url: str, tmp_path: Path) -> Iterator[Flask]:
    made = create_app(Settings(var_dir=tmp_path, database_url=sqlite_url))
    yield made
    services(made).close()


def document(app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = app.test_client().get("/api/v1/openapi.json").json or {}
    return found


def routes(app: Flask) -> set[tuple[str, str]]:
    return {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(("/api/", "/dicomweb/"))
    }


def test_it_is_valid(app: Flask) -> None:
    whole = document(app)
    assert whole["openapi"].startswith("3.1")
    validate(whole)


def test_it_names_every_route_and_no_other(app: Flask) -> None:
    described = {
        (method, path) for path, item in document(app)["paths"].items() for method in item if method in METHODS
    }
    assert described == {(method, path) for method, path in routes(app) if path not in OWN}


def test_every_operation_is_explained_and_names_its_errors(app: Flask) -> None:
    for path, item in document(app)["paths"].items():
        for method in METHODS & set(item):
            operation = item[method]
            assert operation.get("summary"), (method, path)
            assert {"401", "403", "503"} <= set(operation["responses"]), (method, path)
            made = path.startswith("/dicomweb/")  # a study that is not there yet is made by storing into it
            assert ("{" not in path) or made or "404" in operation["responses"], (method, path)
            for status in ("401", "403"):
                assert "application/problem+json" in operation["responses"][status]["content"], (method, path)


def test_the_page_shows_every_operation_and_loads_nothing_from_elsewhere(app: Flask) -> None:
    page = app.test_client().get("/api/v1/docs").text
    for path in document(app)["paths"]:
        assert path in page
    assert re.findall(r'(?:src|href)="(?!/)[^"]*"', page) == []
    assert "<script" not in page
    assert "style=" not in page


def test_real_answers_are_as_described(sqlite_url: str, tmp_path: Path) -> None:
    settings = Settings(
        var_dir=tmp_path, database_url=sqlite_url, models_dir=models_folder(tmp_path / "models"), min_free_disk_bytes=0
    )
    promote_tiny(settings)
    world = World(create_app(settings), settings)
    ann, ada = world.add("ann", Role.SUBMITTER), world.add("ada", Role.ADMIN)
    whole = document(world.app)
    registry = Registry().with_resource("urn:document", DRAFT202012.create_resource(whole))

    def check(method: str, path: str, address: str, status: int, *, who: Person = ann, **more: Any) -> Any:
        answer = world.ask(who, method.upper(), address, **more)
        assert answer.status_code == status, answer.text
        described = whole["paths"][path][method]["responses"][str(status)]["content"]
        kind = answer.content_type.partition(";")[0]
        assert kind in described, (kind, list(described))
        if kind.endswith("json"):
            schema = described[kind]["schema"]
            pointed = {"$ref": f"urn:document{schema['$ref']}"} if "$ref" in schema else schema
            Draft202012Validator(pointed, registry=registry).validate(answer.json)
            return answer.json
        content = answer.text if kind == "text/csv" else answer.data
        answer.close()  # some are files
        return content

    try:
        root = "/api/v1"
        check("get", f"{root}/me", f"{root}/me", 200)
        check("post", f"{root}/me/tokens", f"{root}/me/tokens", 201, json={"name": "x"})
        check("post", f"{root}/me/tokens", f"{root}/me/tokens", 422, json={})
        check("get", f"{root}/me/tokens", f"{root}/me/tokens", 200)
        check("get", f"{root}/checkpoints", f"{root}/checkpoints", 200)
        upload = check("post", f"{root}/uploads", f"{root}/uploads", 201, json={})
        check("get", f"{root}/uploads/{{upload_id}}", upload["links"]["self"], 200)
        check("post", f"{root}/uploads/{{upload_id}}/complete", upload["links"]["self"] + "/complete", 400)
        job = world.finished(ann)
        one = f"{root}/jobs/{{job_id}}"
        check("get", f"{root}/jobs", f"{root}/jobs", 200)
        check("get", one, job["links"]["self"], 200)
        check("get", f"{one}/receipt", job["links"]["receipt"], 200)
        check("get", f"{one}/receipt.csv", job["links"]["receipt_csv"], 200)
        check("get", f"{one}/results.csv", job["links"]["results_csv"], 200)
        check("post", f"{one}/cancel", f"{job['links']['self']}/cancel", 409)
        study = job["studies"][0]["links"]
        check("get", f"{root}/studies/{{study_id}}", study["self"], 200)
        results = check("get", f"{root}/studies/{{study_id}}/results", study["results"], 200)
        links = results["slices"][0]["prediction"]["links"]
        predictions = f"{root}/predictions/{{prediction_id}}"
        assert check("get", f"{predictions}/heatmap.png", links["heatmap"], 200).startswith(b"\x89PNG")
        assert check("get", f"{predictions}/overlay.png", links["overlay"], 200).startswith(b"\x89PNG")
        check("get", f"{predictions}/overlay.png", f"{links['overlay']}?opacity=2", 422)
        check("get", f"{predictions}/receipt", links["receipt"], 200)
        repetition = check("post", f"{predictions}/reproduce", links["reproduce"], 202)
        world.work()
        again = check("get", f"{predictions}/reproductions/{{reproduction_id}}", repetition["links"]["self"], 200)
        assert again["state"] == "equal"
        image = results["slices"][0]["links"]["image"]
        assert check("get", f"{root}/slices/{{slice_id}}/image.png", image, 200).startswith(b"\x89PNG")
        decided = f"{root}/slices/{{slice_id}}/decisions"
        address = results["slices"][0]["links"]["decisions"]
        check("post", decided, address, 201, who=ada, json={"kind": "class", "label": "glioma"})
        check("post", decided, address, 422, who=ada, json={"kind": "perhaps"})
        assert check("get", decided, address, 200)["decisions"][0]["label"] == "glioma"
        check("get", f"{root}/studies/{{study_id}}/results", study["results"], 200)
        class_folders(settings.datasets_dir / "made", {"glioma": 10, "meningioma": 10})
        sets, one = f"{root}/datasets", f"{root}/datasets/{{dataset_id}}"
        made = check("post", sets, sets, 202, who=ada, json={"name": "Made", "folder": "made"})
        check("post", sets, sets, 422, who=ada, json={"name": "Made"})
        world.work()
        check("get", sets, sets, 200, who=ada)
        assert check("get", one, made["links"]["self"], 200, who=ada)["state"] == "ready"
        check("get", f"{one}/samples.csv", f"{made['links']['self']}/samples.csv", 200, who=ada)
        check("post", f"{one}/again", f"{made['links']['self']}/again", 409, who=ada, json={})
        trained = plant(world.database, scenarios="light.yaml")
        sweep, run = f"{root}/sweeps/{{sweep_id}}", f"{root}/runs/{{run_id}}"
        check("get", f"{root}/sweeps", f"{root}/sweeps", 200, who=ada)
        wanted = {"name": "x", "dataset_id": str(trained.dataset), "scenario_file": "light.yaml"}
        check("post", f"{root}/sweeps", f"{root}/sweeps", 202, who=ada, json=wanted)
        check("post", f"{root}/sweeps", f"{root}/sweeps", 422, who=ada, json={**wanted, "name": ""})
        for state in (trained.running, trained.refused, trained.finished):
            check("get", sweep, f"{root}/sweeps/{state}", 200, who=ada)
        for name in ("runs", "leaderboard.csv", "export.json", "mlflow.zip"):
            check("get", f"{sweep}/{name}", f"{root}/sweeps/{trained.finished}/{name}", 200, who=ada)
        check("post", f"{sweep}/pause", f"{root}/sweeps/{trained.running}/pause", 200, who=ada)
        check("post", f"{sweep}/pause", f"{root}/sweeps/{trained.running}/pause", 409, who=ada)
        check("get", run, f"{root}/runs/{trained.live_run}", 200, who=ada)
        check("get", f"{run}/export.json", f"{root}/runs/{trained.runs[0]}/export.json", 200, who=ada)
        check("post", f"{run}/retry", f"{root}/runs/{trained.failed_run}/retry", 202, who=ada)
    finally:
        world.close()
