"""Queue and task names: each is declared, consumed and handled, and nothing else is."""

import re
from pathlib import Path

import pytest

from config import queues
from config.queues import QUEUES, TASK_HOUSEKEEPING, TASK_TRAIN, TASKS
from config.settings import ROOT, load_settings
from db.doorbell import Doorbell
from worker.__main__ import ROLES, arguments
from worker.celery_app import celery_settings, create_app
from worker.work import MODULES

NAME = re.compile(r'"(neurosight\.[a-z]+)"')
PACKAGES = ("config", "db", "worker", "web", "ops", "imaging", "inference", "exchange", "training")


@pytest.fixture(scope="module")
def app():  # type: ignore[no-untyped-def]
    return create_app(load_settings(broker_url="redis://localhost:1/0"))


def test_every_name_of_config_is_listed() -> None:
    named = {value for name, value in vars(queues).items() if name.startswith("QUEUE_")}
    assert named == set(QUEUES)
    assert {value for name, value in vars(queues).items() if name.startswith("TASK_")} == set(TASKS)


def test_every_queue_is_consumed_by_some_worker() -> None:
    consumed = [queue for role in ROLES.values() for queue in role.queues]
    assert sorted(consumed) == sorted(QUEUES)


def test_the_most_urgent_queue_is_named_first() -> None:
    for role in ROLES.values():
        assert list(role.queues) == [queue for queue in QUEUES if queue in role.queues]
    assert f"--queues={','.join(ROLES['classify'].queues)}" in arguments("classify")
    assert celery_settings(load_settings())["broker_transport_options"]["queue_order_strategy"] == "priority"


def test_every_task_is_registered_and_handled(app) -> None:  # type: ignore[no-untyped-def]
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert ours == set(TASKS)
    assert set(MODULES) == set(TASKS) - {TASK_HOUSEKEEPING}


def test_no_task_is_named_outside_of_config() -> None:
    strays = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path != Path(queues.__file__) and set(NAME.findall(path.read_text(encoding="utf-8"))) & set(TASKS):
                strays.append(str(path.relative_to(ROOT)))
    assert strays == []


def test_delivery_settings_that_the_promises_rest_on(app) -> None:  # type: ignore[no-untyped-def]
    conf = app.conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_disable_prefetch
    assert conf.worker_prefetch_multiplier == 1
    assert conf.accept_content == ["json"]
    assert conf.task_serializer == "json"
    assert conf.result_backend is None
    assert conf.task_ignore_result
    assert not conf.task_create_missing_queues
    assert conf.broker_connection_max_retries is None
    assert {queue.name for queue in conf.task_queues} == set(QUEUES)
    # Celery would use these for tasks without a limit of their own.
    assert conf.task_soft_time_limit is None
    assert conf.task_time_limit is None
    for task in set(TASKS) - {TASK_TRAIN}:
        assert app.tasks[task].acks_late
        assert app.tasks[task].soft_time_limit < app.tasks[task].time_limit
    assert not app.tasks[TASK_TRAIN].acks_late, "the visibility timeout would deliver a long training again"
    assert app.tasks[TASK_TRAIN].soft_time_limit is app.tasks[TASK_TRAIN].time_limit is None


def test_every_setting_is_one_that_this_celery_knows() -> None:
    from celery.app.defaults import SETTING_KEYS

    unknown = set(celery_settings(load_settings())) - set(SETTING_KEYS)
    assert unknown == set()


def test_both_ends_agree_on_what_must_be_the_same_everywhere() -> None:
    settings = load_settings(broker_url="redis://localhost:1/0")
    doorbell = Doorbell(settings)
    ours = doorbell.transport_options
    theirs = celery_settings(settings)["broker_transport_options"]
    for name in ("visibility_timeout", "global_keyprefix"):
        assert ours[name] == theirs[name]
    assert ours["socket_timeout"] <= 2, "a person's request would wait for the broker"
