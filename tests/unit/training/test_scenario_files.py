"""Files of scenarios: grids, inheritance, and every mistake with its line. Needs no TensorFlow."""

import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import ROOT
from training.errors import ScenarioError
from training.scenario_files import load_scenario, load_scenarios, parse_scenarios

FOLDER = ROOT / "config" / "scenarios"
BASE = """\
name: base
network: tiny
weights: none
class_names: [a, b]
sampling: all
preprocessing: {size: 64}
phases: [{size: 64, epochs: 2}]
"""


def mistakes_of(text: str, folder: Path | None = FOLDER) -> list[tuple[int, str]]:
    """Line and message of each mistake of a text."""
    with pytest.raises(ScenarioError, match=r"bad\.yaml") as caught:
        parse_scenarios(text, "bad.yaml", folder)
    return [(mistake.line, mistake.message) for mistake in caught.value.mistakes]


def test_the_27_of_the_thesis() -> None:
    scenarios = load_scenarios(FOLDER / "thesis.yaml").scenarios

    assert len({(s.network, s.optimizer, s.learning_rate) for s in scenarios}) == len(scenarios) == 27
    assert {s.network for s in scenarios} == {"xception", "densenet121", "vgg19"}
    assert {s.optimizer for s in scenarios} == {"adam", "sgd", "rmsprop"}
    assert {s.learning_rate for s in scenarios} == {0.01, 0.001, 0.0001}
    for s in scenarios:
        assert (s.planes, s.class_names) == (("axial",), ("glioma", "meningioma"))
        assert (s.preprocessing.size, s.batch, s.epochs) == (224, 32, 50)
        assert (s.sampling, s.static_per_class, s.learns) == ("under_sample", 1500, "head")
        assert (s.head.activation, s.schedule, s.patience_epochs > 0) == ("sigmoid", "constant", True)
        assert (s.label_smoothing, s.mixup_alpha, s.ema_decay, s.weight_decay) == (0, 0, 0, 0)
        used = {name for name in s.augmentation.__dataclass_fields__ if getattr(s.augmentation, name)}
        assert used == {"rotation_deg", "shift", "zoom", "flip_rate"}


def test_every_file_in_the_folder_is_valid_and_names_are_unique() -> None:
    names = [scenario.name for path in FOLDER.glob("*.yaml") for scenario in load_scenarios(path).scenarios]

    assert len(set(names)) == len(names)
    assert "thesis-xception-adam-0.01" in names
    assert len(load_scenarios(FOLDER / "available.yaml").scenarios) == 18


def test_light_backbones_tell_four_classes_apart() -> None:
    scenarios = load_scenarios(FOLDER / "light.yaml").scenarios

    assert {s.network for s in scenarios} == {"efficientnet_lite0", "mobilenet_v3"}
    assert all(len(s.class_names) == 4 and s.head.activation == "softmax" for s in scenarios)


def test_the_shipped_file_holds_one_scenario() -> None:
    assert load_scenario(FOLDER / "shipped.yaml").name == "neurosight"
    with pytest.raises(ScenarioError, match="grid of 27 scenarios; this command trains one"):
        load_scenario(FOLDER / "thesis.yaml")


def test_a_grid_combines_fields_and_fields_of_sections() -> None:
    found = parse_scenarios(
        f"{BASE}grid:\n  head.units: [4, 8]\n  planes: [[axial], []]\n  learning_rate: [1e-4, 1.0e-2]\n", "x", None
    )

    assert len(found.scenarios) == 8
    assert [s.name for s in found.scenarios[:3]] == [
        "base-units4-planes1-0.0001",
        "base-units4-planes1-0.01",
        "base-units4-planes2-0.0001",
    ]
    assert found.scenarios[0].learning_rate == 1e-4
    assert {(s.head.units, s.planes) for s in found.scenarios} == {
        (units, planes) for units in (4, 8) for planes in ((), ("axial",))
    }


def test_a_file_that_extends_gives_only_the_difference(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        f"{BASE}head: {{units: 4, dropout: 0.1}}\nseed: 5\ngrid: {{optimizer: [adam, sgd], batch: [8, 16]}}\n"
    )
    text = "extends: base.yaml\nname: child\nhead: {units: 9}\noptimizer: rmsprop\ngrid: {seed: [1, 2, 3]}\n"
    found = parse_scenarios(text, "child.yaml", tmp_path)

    assert len(found.scenarios) == 6
    assert {(s.head.units, s.head.dropout, s.optimizer, s.network) for s in found.scenarios} == {
        (9, 0.1, "rmsprop", "tiny")
    }
    assert {(s.batch, s.seed) for s in found.scenarios} == {(b, s) for b in (8, 16) for s in (1, 2, 3)}
    assert found.text == text


def test_all_mistakes_come_with_their_lines() -> None:
    text = """\
name: bad
network: xcepton
class_names: [glioma, meningioma]
phases:
  - {size: 224, epochs: 50}
  - {size: 224, epochs: none}
optimizer: lion
learning_rat: 1e-3
head:
  units: many
batch: 32
batch: 16
grid:
  learning_rate: [0.1,
                  -1]
  optimzer: [adam]
  seed: []
"""
    found = mistakes_of(text)

    assert [line for line, _ in found] == [2, 6, 7, 8, 10, 12, 15, 16, 17]
    for (_, message), words in zip(
        found,
        (
            "Did you mean xception?",
            "phases[1].epochs is 'none'; expected a whole number",
            "optimizer is 'lion'; expected one of adamw, adam, sgd, rmsprop",
            "did you mean learning_rate?",
            "head.units is 'many'",
            "batch stands twice",
            "learning_rate is -1; expected a number above 0",
            "did you mean optimizer?",
            "grid.seed is []; expected a list of one or more values",
        ),
        strict=True,
    ):
        assert words in message


def test_a_mistake_of_the_extended_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE.replace("[a, b]", "[a]"))
    with pytest.raises(ScenarioError, match=r"^base.yaml, line 4: class_names is \['a'\]"):
        parse_scenarios("extends: base.yaml\nname: child\n", "child.yaml", tmp_path)


def test_rules_between_fields_have_the_line_of_the_field() -> None:
    assert mistakes_of(f"{BASE}views: 3\n") == [
        (8, "views is 3; expected 1 with `learns: all`, of which nothing can be cached.")
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: [", 1, "not valid YAML"),
        ("name: x\n\tbatch: 3\n", 2, "not valid YAML"),
        ("name: \x07\n", 1, "not valid YAML: a character that YAML does not allow"),
        ("- a\n", 1, "The file holds a list; expected a mapping"),
        ("", 1, "The file holds nothing"),
        ("x: " + "[" * 3000, 1, "too deep"),
        ("x: " + "y" * 300_000, 1, "at most 262144 are read"),
        ("1: x\n", 1, "A field's name must be text"),
        ("name: !!python/object:os.system x\n", 1, "cannot be read as tag:yaml.org,2002:python/object:os.system"),
        ("a: &a [*a]\n", 1, "unfolds into more than 20000 values or 12 levels"),
        (f"{BASE}grid: [adam]\n", 8, "grid is ['adam']; expected a mapping"),
        (f"{BASE}grid: {{seed: [1, 1]}}\n", 8, "expected different values"),
        (f"{BASE}seed: 3\ngrid: {{seed: [1]}}\n", 9, "grid.seed and seed both stand in this file"),
        (f"{BASE}grid: {{name: [x]}}\n", 8, "grid.name is unknown"),
        (f"{BASE}grid: {{seed: {list(range(501))}}}\n", 8, "makes 501 scenarios; at most 500"),
        ("extends: ../secret.yaml\n", 1, "expected the name of a .yaml file in the same folder"),
        ("extends: tesis.yaml\n", 1, "not in the same folder; did you mean thesis.yaml?"),
    ],
)
def test_files_that_cannot_be_used(text: str, line: int, words: str) -> None:
    found = mistakes_of(text)

    assert any(place == line and words in message for place, message in found), found


def test_many_aliases_do_not_unfold() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]

    assert any("unfolds" in message for _, message in mistakes_of("\n".join(lines)))


def test_circles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ScenarioError, match=r"goes in a circle: a.yaml -> b.yaml -> a.yaml"):
        load_scenarios(tmp_path / "a.yaml")


def test_a_text_without_a_folder_cannot_extend() -> None:
    assert "stands in no folder" in mistakes_of("extends: thesis.yaml\nname: x\n", None)[0][1]


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="There is no scenario file"):
        load_scenarios(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(ScenarioError, match=r"latin.yaml: The file is not UTF-8 text"):
        load_scenarios(tmp_path / "latin.yaml")


def test_the_parser_needs_no_tensorflow() -> None:
    code = (
        "import sys; from pathlib import Path; from training.scenario_files import load_scenarios;"
        "load_scenarios(Path('config/scenarios/thesis.yaml'));"
        "assert not {'tensorflow', 'keras', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
