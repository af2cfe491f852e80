"""What the fault tests share: short leases, the tiny model promoted, a fleet with a slow engine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from tests.servers import BrokerServer
from tests.starter import Starter
from tests.work_rig import models_folder, promote_tiny
from tests.worker_fleet import Fleet

LONGEST_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fault tests start many processes: they get more time than others before they are thought to hang."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(LONGEST_S))


@pytest.fixture
def work(settings: Settings, broker: BrokerServer, tmp_path: Path) -> Settings:
    """Settings of a hospital in a hurry; the tiny model is promoted."""
    changed = settings.model_copy(
        update={
            "models_dir": models_folder(tmp_path / "models"),
            "chunk_slices": 10,
            "lease_s": 3.0,
            "retry_delay_s": 0.2,
            "resend_after_s": 2.0,
            "housekeeping_period_s": 0.3,
            "max_attempts": 12,
            "inference_threads": 1,
            "soft_shutdown_s": 10.0,
        }
    )
    promote_tiny(changed)
    return changed


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    """Forks workers and dispatchers."""
    started = Starter("worker.*", "inference.predictor", "celery.bin.worker")
    yield started
    started.close()


@pytest.fixture
def fleets(work: Settings, tmp_path: Path, starter: Starter) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets whose engine takes `delay_s` for each slice; all are ended after the test."""
    made: list[Fleet] = []

    def make(
        settings: Settings = work, *, delay_s: float = 0.0, poison_side: int = 0, decoders: str = "imaging.decoder_host"
    ) -> Fleet:
        fleet = Fleet(
            settings,
            tmp_path / f"logs-{len(made)}",
            module="tests.fault.slow_worker",
            environment={
                "NS_TEST_DELAY_S": str(delay_s),
                "NS_TEST_POISON_SIDE": str(poison_side),
                "NS_TEST_DECODERS": decoders,
            },
            starter=starter,
        )
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        fleet.close()
        print(fleet.last_words())  # shown when the test failed
