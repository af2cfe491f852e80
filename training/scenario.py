"""One named, frozen configuration of a training run.

Owns: the fields, their ranges, the YAML form, and the digest by which a resumed run knows that it is the same run.
Refuses: paths of a machine: data, weights and output folders are arguments of the command.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, Self

import yaml

from imaging.preprocess import Preprocessing, PreprocessingError
from inference.networks import HeadSpec, NetworkError, names
from training.augment import Augmentation
from training.errors import ScenarioError

PLANES: Final = ("axial", "coronal", "sagittal")
_WEIGHTS: Final = re.compile(r"imagenet|none|sha256:[0-9a-f]{64}")
_LAYER: Final = re.compile(r"[A-Za-z0-9_]{1,100}")


@dataclass(frozen=True, slots=True)
class Phase:
    """Epochs at one picture size: small pictures first are cheap, and the last phase has the size of the export.

    Attributes:
        size: Side of the training pictures, pixels.
        epochs: Number of epochs.
        cosine_until: Share of the learning rate's half cosine that is passed when the phase ends, 0 to 1; without one
            it is the phase's share of the epochs.
    """

    size: int
    epochs: int
    cosine_until: float | None = None


@dataclass(frozen=True)
class Scenario:
    """Everything that decides a run's outcome, besides the data.

    Attributes:
        name: Name of the scenario and of the files it makes.
        network: Name in the registry.
        weights: `imagenet` from a folder of weights; `none`: random; `sha256:` and 64 hexadecimal digits: an artefact
            of this digest, of the same network, whose head is taken as well when its shape and classes fit.
        class_names: In the order of the scores.
        head: The head.
        preprocessing: Of training and of the artefact; its `size` is the exported input size.
        cache_size: Side at which prepared pictures are kept for augmentation.
        augmentation: Strengths and rates.
        phases: In their order; the last one has the exported size.
        planes: Anatomical planes of the slices that are used; empty: all, also those of unknown plane.
        split_rule: `patient`: what belongs together stays together; `image`: a plain stratified split of images, as in
            the thesis, which leaks between the parts and is marked wherever its numbers stand.
        sampling: Which training slices an epoch uses. `quota`: draws `samples_per_epoch`; `under_sample`: the training
            part is cut once, at random, to the size of its smallest class; `all`: each slice once.
        samples_per_epoch: How many slices of each class an epoch draws; needed with `quota`, forbidden otherwise.
        static_per_class: After under-sampling each class is filled up to so many items by fixed augmented copies;
            0 is off.
        learns: `all`; `head`: the backbone is frozen; or the name of the first backbone layer that learns, before
            which everything is frozen. Frozen layers run in inference mode.
        views: With a frozen part: how many augmented views of each item have their features cached; epoch e uses view
            e modulo views.
        schedule: Of the learning rate after warm-up: `cosine` down to a hundredth, or `constant`.
        patient_power: Weight of a slice is (slices of its patient) ** -power: 0 treats slices alike, 1 patients.
        batch: Slices in a step.
        optimizer: adamw, adam, sgd (momentum 0.9) or rmsprop.
        learning_rate: Peak, after warm-up.
        weight_decay: Decoupled, of adamw only.
        warm_up_epochs: Epochs of linear rise.
        label_smoothing: Share taken from the true class and given to all.
        mixup_alpha: Of the beta distribution; 0 is off.
        mixup_rate: Share of batches that are mixed.
        drop_path: Stochastic depth of the last block.
        ema_decay: Of the averaged weights that are evaluated and exported; 0 is off.
        clip_norm: Largest global gradient norm; 0 is off.
        patience_epochs: Early stopping after so many epochs without a better validation loss, counted in the last
            phase; 0 is off.
        seed: Of everything random.
    """

    name: str
    network: str
    class_names: tuple[str, ...]
    phases: tuple[Phase, ...]
    samples_per_epoch: dict[str, int] = field(default_factory=dict)
    weights: str = "imagenet"
    planes: tuple[str, ...] = ()
    split_rule: Literal["patient", "image"] = "patient"
    sampling: Literal["quota", "under_sample", "all"] = "quota"
    static_per_class: int = 0
    learns: str = "all"
    views: int = 1
    schedule: Literal["cosine", "constant"] = "cosine"
    head: HeadSpec = field(default_factory=HeadSpec)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    cache_size: int = 288
    augmentation: Augmentation = field(default_factory=Augmentation)
    patient_power: float = 0.5
    batch: int = 32
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warm_up_epochs: float = 1.0
    label_smoothing: float = 0.05
    mixup_alpha: float = 0.3
    mixup_rate: float = 0.3
    drop_path: float = 0.1
    ema_decay: float = 0.99
    clip_norm: float = 5.0
    patience_epochs: int = 0
    seed: int = 2026

    def __post_init__(self) -> None:
        """Check ranges once.

        Raises:
            ScenarioError: Naming the field, what it holds and what it should hold.
        """
        checks = (
            ("network", self.network in names(), f"one of {', '.join(names())}"),
            ("weights", bool(_WEIGHTS.fullmatch(self.weights)), "imagenet, none or sha256:<64 hexadecimal digits>"),
            (
                "planes",
                set(self.planes) <= set(PLANES) and len(set(self.planes)) == len(self.planes),
                "some of axial, coronal and sagittal",
            ),
            ("split_rule", self.split_rule in ("patient", "image"), "patient or image"),
            ("sampling", self.sampling in ("quota", "under_sample", "all"), "quota, under_sample or all"),
            (
                "static_per_class",
                self.static_per_class == 0 or (self.static_per_class > 0 and self.sampling == "under_sample"),
                "0 (off), or a number of items with `sampling: under_sample`",
            ),
            ("learns", bool(_LAYER.fullmatch(self.learns)), "all, head or the name of a layer"),
            (
                "views",
                1 <= self.views <= 100 and (self.views == 1 or self.learns != "all"),
                "1 to 100, and 1 with `learns: all`",
            ),
            ("schedule", self.schedule in ("cosine", "constant"), "cosine or constant"),
            ("class_names", len(set(self.class_names)) == len(self.class_names) >= 2, "two or more different names"),
            ("phases", len(self.phases) > 0 and all(p.epochs > 0 and p.size >= 32 for p in self.phases), "one or more"),
            (
                "samples_per_epoch",
                set(self.samples_per_epoch) == (set(self.class_names) if self.sampling == "quota" else set())
                and all(count > 0 for count in self.samples_per_epoch.values()),
                "a positive number for each class with `sampling: quota`, nothing otherwise",
            ),
            ("batch", self.batch >= 2, "at least 2"),
            ("optimizer", self.optimizer in ("adamw", "adam", "sgd", "rmsprop"), "adamw, adam, sgd or rmsprop"),
            ("learning_rate", 0 < self.learning_rate < 10, "above 0, below 10"),
            ("weight_decay", 0 <= self.weight_decay < 1, "0 up to below 1"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "0 up to below 1"),
            ("ema_decay", 0 <= self.ema_decay < 1, "0 up to below 1"),
            ("drop_path", 0 <= self.drop_path < 1, "0 up to below 1"),
            ("clip_norm", self.clip_norm >= 0, "0 (off) or more"),
            ("patience_epochs", self.patience_epochs >= 0, "0 (off) or more"),
        )
        for name, holds, expected in checks:
            if not holds:
                raise ScenarioError(
                    f"Scenario {self.name!r}: {name} is {getattr(self, name)!r}; expected {expected}. "
                    "Correct the YAML file."
                )
        if self.phases[-1].size != self.preprocessing.size:
            raise ScenarioError(
                f"Scenario {self.name!r}: the last phase trains at {self.phases[-1].size} pixels but the exported size "
                f"(preprocessing.size) is {self.preprocessing.size}; they must be equal."
            )

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def size_of(self, epoch: int) -> int:
        """Side of the training pictures in an epoch, counted from 0."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase.size
            epoch -= phase.epochs
        return self.phases[-1].size

    def to_json(self) -> dict[str, Any]:
        """The scenario as JSON values."""
        record: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return record

    def digest(self) -> str:
        """SHA-256 of the JSON form, lower-case hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Build a scenario from parsed YAML.

        Raises:
            ScenarioError: An unknown key, a missing one, or a value out of range.
        """
        nested = {"head": HeadSpec, "preprocessing": Preprocessing, "augmentation": Augmentation}
        known = {f.name for f in fields(cls)}
        if unknown := set(record) - known:
            raise ScenarioError(f"Unknown keys in the scenario: {sorted(unknown)}; known are {sorted(known)}.")
        values = dict(record)
        try:
            for key, kind in nested.items():
                if key in values:
                    values[key] = kind(**values[key])
            values["phases"] = tuple(Phase(**phase) for phase in values["phases"])
            values["class_names"] = tuple(values["class_names"])
            values["planes"] = tuple(values.get("planes", ()))
            return cls(**values)
        except (TypeError, KeyError, PreprocessingError, NetworkError) as error:
            raise ScenarioError(
                f"The scenario cannot be read: {error}. Compare it with config/scenarios/shipped.yaml."
            ) from error


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ScenarioError: There is none, it is not YAML, or it is not a valid scenario.
    """
    try:
        record = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ScenarioError(f"There is no scenario file {path}.") from None
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path} is not valid YAML: {error}.") from None
    if not isinstance(record, dict):
        raise ScenarioError(f"{path} holds a {type(record).__name__}; expected a mapping of scenario fields.")
    return Scenario.from_record(record)
