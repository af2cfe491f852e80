"""The test servers are what they claim: real, migrated, and able to fail as in a hospital."""

import pytest
import redis
from sqlalchemy import text

from config.settings import Settings
from db.migrate import current, head
from db.session import Database
from tests.servers import BrokerServer, PostgresServer


def test_each_database_is_migrated_and_empty(database: Database) -> None:
    with database.engine.connect() as connection:
        assert current(connection) == head()
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM job")) == 0


def test_what_one_test_writes_the_next_does_not_see(database: Database) -> None:
    with database.write() as session:
        session.execute(text("INSERT INTO login_failure (key, failed_at) VALUES ('a', '2026-01-01 00:00:00')"))
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM login_failure")) == 1


def test_postgresql_comes_back_after_a_crash(postgresql_url: str, postgres_server: PostgresServer) -> None:
    database = Database(postgresql_url)
    with database.write() as session:
        session.execute(text("INSERT INTO login_failure (key, failed_at) VALUES ('a', '2026-01-01 00:00:00')"))
    postgres_server.stop("immediate")
    postgres_server.start()
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM login_failure")) == 1
    database.close()


def test_broker_asks_for_its_password_and_keeps_every_key(broker: BrokerServer) -> None:
    with redis.Redis(port=broker.port) as stranger, pytest.raises(redis.AuthenticationError, match="uthenticat"):
        stranger.ping()
    with broker.client() as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_broker_restarts_with_its_data_or_without(broker: BrokerServer) -> None:
    with broker.client() as client:
        client.set("doorbell", "1")
        client.wait(0, 0)
    broker.stop()
    broker.start()
    with broker.client() as client:
        assert client.get("doorbell") == b"1"
    broker.restart(wipe=True)
    with broker.client() as client:
        assert client.get("doorbell") is None


def test_settings_of_a_test_reach_a_process(
    settings: Settings, broker: BrokerServer, process_environment: dict[str, str]
) -> None:
    assert process_environment["NEUROSIGHT_BROKER_URL"] == broker.url == settings.broker_url
    assert process_environment["NEUROSIGHT_DATABASE_URL"] == settings.database_url
