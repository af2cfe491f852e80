"""A sweep is planned, or refused with every mistake, before anything is trained."""

import uuid

import pytest

from config.queues import QUEUE_REGISTRY
from config.scenario_texts import FOLDER, names, read
from config.settings import Settings
from db.blobs import BlobStore
from db.queries import sweep_views
from db.queries.sweep_views import SweepView
from db.queries.training import SweepToPlan
from db.session import Database
from db.states import SweepState
from inference.networks import backbone_spec
from tests.tiny_artefact import TINY_ARTEFACT
from tests.training_rig import begin_sweep, items_of, register_dataset, runs_of, scenarios
from tests.work_rig import context_for
from training.scenario_files import parse_scenarios
from worker import work
from worker.plan_sweep import find_mistakes, line_of

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def planned(database: Database, settings: Settings, text: str) -> SweepView:
    """What becomes of a sweep of this text on the phantoms."""
    sweep_id = begin_sweep(database, settings, register_dataset(database, settings, uuid.uuid4().hex), text)
    context = context_for(settings, (QUEUE_REGISTRY,))
    assert work.turn(context, 0.0) == 1
    context.close()
    with database.read() as session:
        found = sweep_views.view(session, sweep_id)
    assert found is not None
    return found


def test_runs_that_share_work_share_an_item(database: Database, settings: Settings) -> None:
    shared = planned(database, settings, scenarios(epochs=7, optimizers="adam, sgd"))
    assert (shared.state, shared.runs, shared.epochs_planned) == (SweepState.RUNNING, 4, 28)
    assert [item.slices for item in items_of(database, shared.id)[1:]] == [4]
    assert [run.name for run in runs_of(database, shared.id)][:2] == ["quick-adam-0.01", "quick-adam-0.001"]
    alone = planned(database, settings, scenarios(learns="all"))
    assert [item.slices for item in items_of(database, alone.id)[1:]] == [1, 1]


def test_all_mistakes_of_a_file_are_kept_with_their_lines(database: Database, settings: Settings) -> None:
    text = scenarios().replace("optimizer: [adam]", "optimizer: [adamm]").replace("[0.01, 0.001]", "[-1]")
    refused = planned(database, settings, text)
    assert refused.state == SweepState.REFUSED
    said = {(problem["field"], problem["line"]): problem["message"] for problem in refused.problems}
    lines = text.splitlines()
    assert "adam" in said["optimizer", lines.index("  optimizer: [adamm]") + 1]
    assert "-1" in said["learning_rate", lines.index("  learning_rate: [-1]") + 1]


def test_what_the_data_set_lacks_is_said_with_what_it_has(database: Database, settings: Settings) -> None:
    text = scenarios(class_names="[glioma, no_tumour]", planes="[coronal]")
    refused = planned(database, settings, text)
    classes, planes = refused.problems
    assert classes["line"] == line_of(text, "class_names") == 1
    assert "has no class 'no_tumour'; it has: glioma, no_tumor. Did you mean 'no_tumor'?" in classes["message"]
    assert planes["expected"] == "axial"


def test_missing_weights_are_said_once_a_network_with_the_place_looked_in(
    settings: Settings, database: Database
) -> None:
    settings.weights_dir.mkdir()
    (settings.weights_dir / backbone_spec("xception").imagenet_file).touch()
    file = parse_scenarios(read("thesis.yaml"), "thesis.yaml", FOLDER)
    context = context_for(settings, (QUEUE_REGISTRY,))
    wanted = SweepToPlan(uuid.uuid4(), "", "", "d", {"glioma": {}, "meningioma": {}}, {"axial": 9})
    missing = list(find_mistakes(file, wanted, context))
    assert [mistake.value for mistake in missing] == ["imagenet (densenet121)", "imagenet (vgg19)"]
    assert f"in {settings.weights_dir} (setting NEUROSIGHT_WEIGHTS_DIR)" in missing[0].message


def test_a_scenario_starts_from_an_artefact_of_the_store_or_says_that_there_is_none(
    database: Database, settings: Settings
) -> None:
    digest = "ab" * 32
    refused = planned(database, settings, scenarios(weights=f"sha256:{digest}"))
    assert refused.problems[0]["field"] == "weights"
    assert "no artefact of this SHA-256 is registered" in refused.problems[0]["message"]
    with TINY_ARTEFACT.open("rb") as file:
        digest, _ = BlobStore(settings.resolved_blob_url).put(file)
    assert planned(database, settings, scenarios(weights=f"sha256:{digest}")).state == SweepState.RUNNING


def test_every_shipped_scenario_file_may_be_chosen(settings: Settings) -> None:
    assert {"thesis.yaml", "light.yaml"} <= set(names())
    for name in names():
        assert parse_scenarios(read(name), name, FOLDER).scenarios
    with pytest.raises(KeyError, match="expected one of"):
        read("../settings.py")
