"""Scenarios are read strictly, all mistakes at once, and their digest notices every change."""

from dataclasses import fields, replace
from typing import Any

import pytest
import yaml

from config.settings import ROOT
from imaging.preprocess import Preprocessing
from inference.networks import HeadSpec
from training.augment import Augmentation
from training.errors import ScenarioError
from training.scenario import Phase, Scenario
from training.scenario_rules import RULES, known_fields

SHIPPED = ROOT / "config" / "scenarios" / "shipped.yaml"


@pytest.fixture
def record() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(SHIPPED.read_text("utf-8"))
    return found


def test_every_field_has_a_rule() -> None:
    assert set(known_fields()) == {field.name for field in fields(Scenario)}
    assert set(known_fields("head")) == {field.name for field in fields(HeadSpec)}
    assert set(known_fields("augmentation")) == {field.name for field in fields(Augmentation)}
    assert set(known_fields("preprocessing")) == {field.name for field in fields(Preprocessing)}
    assert set(known_fields("phases")) == {field.name for field in fields(Phase)}


def test_every_field_is_documented() -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text("utf-8")

    assert [name for name in known_fields() if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rat": 1}, "learning_rat is unknown; did you mean learning_rate?"),
        ({"network": "resnet"}, "network is 'resnet'; expected one of densenet121"),
        ({"network": "xcepton"}, "Did you mean xception?"),
        ({"learning_rate": 0}, "learning_rate is 0; expected a number above 0 up to below 10"),
        ({"learning_rate": -1}, "learning_rate is -1; expected a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; expected a number"),
        ({"batch": True}, "batch is True; expected a whole number from 2"),
        ({"batch": 32.0}, "batch is 32.0; expected a whole number"),
        ({"name": "../etc"}, "name is '../etc'; expected 1 to 100 letters"),
        ({"class_names": ["a", "a"]}, "two or more different names"),
        ({"phases": [{"size": 160, "epochs": 3}]}, r"phases\[0\].size is 160; expected 224, the exported size"),
        ({"phases": []}, "phases is "),
        ({"phases": [{"size": 224}]}, r"phases\[0\].epochs is missing"),
        ({"phases": [{"size": 224, "epochs": 1, "epoch": 2}]}, r"phases\[0\].epoch is unknown; did you mean epochs"),
        ({"phases": [3]}, r"phases\[0\] is 3; expected a mapping"),
        ({"samples_per_epoch": {"glioma": 3}}, "a number of slices above 0 for each of glioma, meningioma"),
        ({"head": {"unit": 3}}, "head.unit is unknown; did you mean units"),
        ({"head": {"units": 0}}, "head.units is 0; expected a whole number from 1"),
        ({"head": {"activation": "sigmoid"}}, "softmax for 4 classes; a sigmoid head tells two apart"),
        ({"preprocessing": {"size": 224, "median": 2}}, r"preprocessing.median is 2; expected 0 \(off\) up to below 1"),
        ({"preprocessing": {"size": 224, "low_percentile": 99.9}}, "preprocessing is "),
        ({"augmentation": {"flip_rate": 1.5}}, "augmentation.flip_rate is 1.5; expected a number from 0 to 1"),
        ({"optimizer": "lion"}, "optimizer is 'lion'"),
        ({"planes": ["axial", "oblique"]}, "planes is .*some of axial, coronal, sagittal"),
        ({"split_rule": "slice"}, "split_rule is 'slice'; expected one of patient, image"),
        ({"sampling": "all"}, "samples_per_epoch is .*nothing with `sampling: all`"),
        ({"sampling": "some"}, "sampling is 'some'"),
        ({"static_per_class": 1500}, "static_per_class is 1500; expected 0, or `sampling: under_sample`"),
        ({"learns": ""}, "learns is ''; expected all, head or the name of a backbone layer"),
        ({"views": 4}, "views is 4; expected 1 with `learns: all`"),
        ({"schedule": "steps"}, "schedule is 'steps'"),
        ({"weights": "sha256:12"}, "weights is 'sha256:12'; expected imagenet, none or sha256:"),
    ],
)
def test_what_is_wrong_is_named(record: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message) as caught:
        Scenario.from_record(record | change)
    assert len(caught.value.mistakes) == 1


def test_all_mistakes_are_told_at_once(record: dict[str, Any]) -> None:
    del record["class_names"]
    with pytest.raises(ScenarioError, match="4 mistakes") as caught:
        Scenario.from_record(record | {"optimizer": "adm", "learning_rate": -1, "head": {"units": 0}})
    assert [mistake.field for mistake in caught.value.mistakes] == [
        "head.units",
        "optimizer",
        "learning_rate",
        "class_names",
    ]
    assert caught.value.mistakes[1].to_json() == {
        "line": 0,
        "field": "optimizer",
        "value": "'adm'",
        "expected": RULES["optimizer"].expected,
        "message": "optimizer is 'adm'; expected one of adamw, adam, sgd, rmsprop. Did you mean adam?",
        "origin": "",
    }


def test_a_scenario_changed_in_code_is_checked_as_well(record: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError, match="batch is 1; expected"):
        replace(Scenario.from_record(record), batch=1)


def test_the_digest_notices_changes(record: dict[str, Any]) -> None:
    scenario = Scenario.from_record(record)

    assert Scenario.from_record(record).digest() == scenario.digest()
    assert replace(scenario, seed=1).digest() != scenario.digest()
    assert replace(scenario, augmentation=replace(scenario.augmentation, zoom=0.5)).digest() != scenario.digest()


def test_a_scenario_makes_the_round_trip_through_json(record: dict[str, Any]) -> None:
    scenario = replace(Scenario.from_record(record), planes=("axial",))

    assert Scenario.from_record(scenario.to_json()) == scenario


def test_sizes_follow_the_phases(record: dict[str, Any]) -> None:
    scenario = replace(Scenario.from_record(record), phases=(Phase(64, 2), Phase(224, 1)))

    assert scenario.epochs == 3
    assert [scenario.size_of(epoch) for epoch in range(3)] == [64, 64, 224]
