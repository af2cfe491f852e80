"""Scenarios are read strictly, and their digest notices every change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import ROOT
from training.errors import ScenarioError
from training.scenario import Phase, Scenario, load_scenario

SHIPPED = ROOT / "config" / "scenarios" / "shipped.yaml"


@pytest.fixture
def record() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(SHIPPED.read_text("utf-8"))
    return found


def test_the_shipped_scenario_is_valid() -> None:
    scenario = load_scenario(SHIPPED)

    assert scenario.class_names == ("glioma", "meningioma", "no_tumor", "pituitary")
    assert scenario.phases[-1].size == scenario.preprocessing.size == 224


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rat": 1}, r"Unknown keys in the scenario: \['learning_rat'\]"),
        ({"network": "resnet"}, "network is 'resnet'; expected one of densenet121"),
        ({"learning_rate": 0}, "learning_rate is 0; expected above 0"),
        ({"phases": [{"size": 160, "epochs": 3}]}, "last phase trains at 160 pixels but the exported size"),
        ({"phases": []}, "phases is "),
        ({"samples_per_epoch": {"glioma": 3}}, "a positive number for each class"),
        ({"head": {"unit": 3}}, "The scenario cannot be read: .*unit"),
        ({"head": {"units": 0}}, "The scenario cannot be read: A head needs units >= 1"),
        ({"optimizer": "lion"}, "optimizer is 'lion'"),
        ({"planes": ["axial", "oblique"]}, "planes is .*some of axial, coronal and sagittal"),
        ({"split_rule": "slice"}, "split_rule is 'slice'; expected patient or image"),
        ({"sampling": "all"}, "samples_per_epoch is .*nothing otherwise"),
        ({"sampling": "some"}, "sampling is 'some'"),
        ({"static_per_class": 1500}, "static_per_class is 1500; expected 0 .*under_sample"),
        ({"learns": ""}, "learns is ''; expected all, head or the name of a layer"),
        ({"views": 4}, "views is 4; expected .* 1 with `learns: all`"),
        ({"schedule": "steps"}, "schedule is 'steps'"),
        ({"weights": "sha256:12"}, "weights is 'sha256:12'; expected imagenet, none or sha256:"),
    ],
)
def test_what_is_wrong_is_named(record: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        Scenario.from_record(record | change)


def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="There is no scenario file"):
        load_scenario(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ScenarioError, match="holds a list; expected a mapping"):
        load_scenario(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [\n")
    with pytest.raises(ScenarioError, match="is not valid YAML"):
        load_scenario(tmp_path / "broken.yaml")


def test_the_digest_notices_changes(record: dict[str, Any]) -> None:
    scenario = Scenario.from_record(record)

    assert Scenario.from_record(record).digest() == scenario.digest()
    assert replace(scenario, seed=1).digest() != scenario.digest()
    assert replace(scenario, augmentation=replace(scenario.augmentation, zoom=0.5)).digest() != scenario.digest()


def test_sizes_follow_the_phases(record: dict[str, Any]) -> None:
    scenario = replace(Scenario.from_record(record), phases=(Phase(64, 2), Phase(224, 1)))

    assert scenario.epochs == 3
    assert [scenario.size_of(epoch) for epoch in range(3)] == [64, 64, 224]
