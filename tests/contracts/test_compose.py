"""docker-compose.yml against the compose specification, our settings, and our own rules."""

import json
import re
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from config.queues import QUEUES
from config.settings import ROOT, Settings, load_settings
from ops.container_secrets import render
from worker.__main__ import ROLES

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OUR_SERVICES = [name for name, service in SERVICES.items() if "build" in service]
ROOT_BY_NEED = {
    "database": "its entry point prepares the folder and then becomes postgres",
    "blobs": "a new volume belongs to root; it holds no capability",
}


def specification() -> dict[str, Any]:
    """The compose specification's own schema, as the package check-jsonschema carries it."""
    path = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema: dict[str, Any] = json.loads(path.read_text())
    return schema


def validate(compose: Any) -> None:
    """Raises ValidationError when `compose` breaks the specification."""
    schema = specification()
    jsonschema.validators.validator_for(schema)(schema).validate(compose)


def test_the_file_follows_the_specification() -> None:
    validate(COMPOSE)


def test_the_validation_can_fail() -> None:
    broken = json.loads(json.dumps(COMPOSE))
    broken["services"]["web"]["stop_grace_periode"] = "60s"
    with pytest.raises(jsonschema.ValidationError, match="stop_grace_periode"):
        validate(broken)


def test_every_setting_named_exists() -> None:
    known = {f"NEUROSIGHT_{name.upper()}" for name in Settings.model_fields} | {
        "NEUROSIGHT_COMMIT"
    }  # config/version.py
    named = set(re.findall(r"\bNEUROSIGHT_[A-Z_]+", (ROOT / "docker-compose.yml").read_text()))
    for dockerfile in (ROOT / "docker").glob("*.Dockerfile"):
        named |= set(re.findall(r"\bNEUROSIGHT_[A-Z_]+", dockerfile.read_text()))
    assert named - known == set()
    assert {"NEUROSIGHT_DATABASE_URL", "NEUROSIGHT_BROKER_URL", "NEUROSIGHT_BLOB_URL"} <= named


def test_the_settings_of_each_service_are_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = dict(line.split("=", 1) for line in render().splitlines() if not line.startswith("#"))
    given = {**secrets, "DICOM_ALLOWED_PEERS": "MR1@10.0.0.5", "DICOM_USER": "scanner", "WATCH_USER": "scanner"}
    given |= {"DEIDENTIFY": "true", "RETENTION_DAYS": "365"}
    for name in OUR_SERVICES:
        with monkeypatch.context() as inside:
            for key, value in SERVICES[name]["environment"].items():
                inside.setenv(key, re.sub(r"\$\{(\w+):[^}]*\}", lambda found: given[found[1]], value))
            settings = load_settings(var_dir=tmp_path)
        assert settings.environment == "production", name
        assert settings.secure_cookies, name
        assert settings.database_url.startswith("postgresql+psycopg://"), name


def test_no_secret_has_a_default_and_all_are_drawn() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    optional = set(re.findall(r"\$\{(\w+):-", text))
    assert optional == {
        "COMMIT", "TRAINING_DATA", "TRAINING_WEIGHTS", "WATCH_DIR", "WATCH_USER",
        "DICOM_ADDRESS", "DICOM_ALLOWED_PEERS", "DICOM_USER", "DEIDENTIFY", "RETENTION_DAYS",
    }  # fmt: skip
    assert set(re.findall(r"\$\{(\w+):\?", text)) == used - optional
    drawn = dict(line.split("=", 1) for line in render().splitlines() if not line.startswith("#"))
    assert set(drawn) == used - optional
    assert all(len(value) >= 20 for value in drawn.values())
    assert drawn != dict(line.split("=", 1) for line in render().splitlines() if not line.startswith("#"))


@pytest.mark.parametrize("name", list(SERVICES))
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert service.get("user", "").split(":")[0] not in ("", "0", "root") or name in ROOT_BY_NEED
    for port in service.get("ports", []):
        local = port.replace("${DICOM_ADDRESS:-127.0.0.1}", "127.0.0.1") if name == "listener" else port
        assert local.startswith("127.0.0.1:"), "published to this machine alone; a proxy with HTTPS stands in front"


@pytest.mark.parametrize("name", OUR_SERVICES)
def test_containers_get_longer_to_end_than_workers_take(name: str) -> None:
    grace_s = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    soft_s = float(SERVICES[name]["environment"].get("NEUROSIGHT_SOFT_SHUTDOWN_S", 20))
    assert grace_s >= soft_s + 15


def test_servers_and_workers_say_how_they_are() -> None:
    without = {name for name in SERVICES if "healthcheck" not in SERVICES[name]}
    expected = {"prepare", "dispatcher", "flower", "listener", "watcher"}
    assert without == expected, "these end, are seen through the others, or end when they cannot do their work"


def test_every_queue_is_consumed() -> None:
    """Local: by the Procfile. Containers: by a service."""
    for where in (
        (ROOT / "Procfile").read_text(),
        json.dumps([service.get("command") for service in SERVICES.values()]),
    ):
        roles = [role for role in ROLES if re.search(rf'worker"?,? "?{role}\b', where)]
        consumed = {queue for role in roles for queue in ROLES[role].queues}
        assert consumed == set(QUEUES)


def test_the_broker_keeps_what_it_is_given() -> None:
    configuration = "\n".join(SERVICES["broker"]["command"])
    for line in ("appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction", "tcp-keepalive 60"):
        assert line in configuration
    assert "$$BROKER_PASSWORD" in configuration, "expanded inside the container, not on the command line"


def test_images_are_made_from_locked_packages_and_all_they_copy_exists() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    for dockerfile in sorted((ROOT / "docker").glob("*.Dockerfile")):
        text = dockerfile.read_text()
        assert "--require-hashes" in text
        assert re.search(r"^USER 10001:10001$", text, re.MULTILINE), dockerfile.name
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
            *sources, _target = [word for word in line.split() if not word.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), f"{dockerfile.name} copies {source}"
                assert f"!{source.rstrip('/')}" in ignore, f".dockerignore keeps {source} out"


def test_every_volume_is_declared() -> None:
    named = set()
    for service in SERVICES.values():
        named |= {volume.partition(":")[0] for volume in service.get("volumes", []) if volume[0].isalpha()}
    assert named == set(COMPOSE["volumes"])


def test_python_of_the_images_is_one_the_locks_were_made_for() -> None:
    assert sys.version_info >= (3, 11)
    for dockerfile in (ROOT / "docker").glob("*.Dockerfile"):
        assert set(re.findall(r"FROM python:(\d+\.\d+)", dockerfile.read_text())) == {"3.12"}
