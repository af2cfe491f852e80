"""`make sweep` beside a running system: what is refused, what is shown, and the exit status."""

import uuid
from pathlib import Path

import pytest
from sqlalchemy import update

from config.settings import Settings
from db.queries import sweep_views, training
from db.session import Database
from db.states import RunState, SweepState
from db.sweeps import Sweep, TrainingRun
from ops import sweep
from ops.console import Console
from ops.sweep import Wish, Wrong
from tests.training_rig import begin_sweep, planned, register_dataset, runs_of, scenarios, sweep_state, take

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def metrics(accuracy: float) -> dict[str, dict[str, float]]:
    return {"validation.accuracy": {"value": accuracy, "low": 0.0, "high": 1.0}}


def a_sweep(database: Database, settings: Settings) -> uuid.UUID:
    """Two runs that wait."""
    sweep_id = begin_sweep(database, settings, register_dataset(database, settings), scenarios())
    held = take(database)
    with database.write() as session:
        training.plan(session, held, sweep_id, planned(["low", "high"]), settings, code_version="tests")
    return sweep_id


def end(database: Database, sweep_id: uuid.UUID, states: dict[str, RunState]) -> None:
    """Ends the runs by hand."""
    with database.write() as session:
        for name, state in states.items():
            session.execute(
                update(TrainingRun)
                .where(TrainingRun.sweep_id == sweep_id, TrainingRun.name == name)
                .values(state=state, metrics=metrics(0.9 if name == "high" else 0.5), failure_code="")
            )
        session.execute(update(Sweep).where(Sweep.id == sweep_id).values(state=SweepState.FINISHED))


def test_a_sweep_is_begun_from_a_shipped_file_or_a_path(settings: Settings, database: Database, tmp_path: Path) -> None:
    register_dataset(database, settings, "phantoms")
    own = tmp_path / "own.yaml"
    own.write_text(scenarios())
    for name, file in (("thesis.yaml", "thesis.yaml"), (str(own), "")):
        sweep_id = sweep.begin(database, settings, Wish(scenarios=name, dataset="phantoms"))
        assert sweep_state(database, sweep_id) == SweepState.PLANNING
        with database.read() as session:
            shown = sweep_views.view(session, sweep_id)
        assert shown is not None
        assert (shown.scenario_file, shown.name) == (file, f"{Path(name).stem} on phantoms")


def test_what_is_misspelt_is_said_with_what_there_is(settings: Settings, database: Database) -> None:
    with pytest.raises(Wrong, match=r"cannot read the scenario file 'thesiss.yaml' .* one of: .*thesis.yaml"):
        sweep.begin(database, settings, Wish(scenarios="thesiss.yaml", dataset="phantoms"))
    register_dataset(database, settings, "phantoms")
    with pytest.raises(Wrong, match=r"no data set 'fantoms'; registered: phantoms\. Register one"):
        sweep.begin(database, settings, Wish(scenarios="thesis.yaml", dataset="fantoms"))
    with pytest.raises(Wrong, match="there is no sweep"):
        sweep.follow(database, settings, uuid.uuid4(), Console([]), lambda: False)


def test_it_ends_with_the_leaderboard_the_best_on_validation_first(
    settings: Settings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep_id = a_sweep(database, settings)
    end(database, sweep_id, {"low": RunState.FINISHED, "high": RunState.FINISHED})
    assert sweep.follow(database, settings, sweep_id, Console([]), lambda: False) == 0
    said = capsys.readouterr().out
    board = said[said.index("validation accuracy") :]
    assert board.index("high") < board.index("low")
    assert "high: finished after 0 epochs, validation accuracy 0.9000" in said


def test_a_failed_run_and_a_refused_sweep_are_a_failure_of_the_command(
    settings: Settings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep_id = a_sweep(database, settings)
    end(database, sweep_id, {"low": RunState.FAILED, "high": RunState.FINISHED})
    assert sweep.follow(database, settings, sweep_id, Console([]), lambda: False) == 1
    problem = {"line": 3, "field": "x", "value": "", "expected": "", "message": "x: no.", "origin": ""}
    with database.write() as session:
        found = session.get_one(Sweep, sweep_id)
        found.state, found.problems = SweepState.REFUSED, [problem]
    assert sweep.follow(database, settings, sweep_id, Console([]), lambda: False) == 1
    assert "line 3: x: no." in capsys.readouterr().out


def test_a_sweep_that_nobody_can_train_says_what_is_missing(
    settings: Settings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep_id = a_sweep(database, settings)
    asked = iter([False, True])
    assert sweep.follow(database, settings, sweep_id, Console([]), lambda: next(asked)) == 1
    assert "make environment-train installs it" in capsys.readouterr().out
    assert runs_of(database, sweep_id)[0].state == RunState.PENDING
