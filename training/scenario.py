"""One named, frozen configuration of a training run.

Owns: the fields, their record form, and the digest by which a resumed run knows that it is the same run. What each may
hold is in `scenario_rules`, files are read by `scenario_files`. Refuses: paths of a machine: data, weights and output
folders are arguments of the command.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from imaging.preprocess import Preprocessing
from inference.networks import HeadSpec
from training.augment import Augmentation
from training.errors import ScenarioError
from training.scenario_rules import find_mistakes


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
        """Check types, ranges and what must go together.

        Raises:
            ScenarioError: With every mistake.
        """
        problems = find_mistakes(asdict(self))
        if problems:
            raise ScenarioError([problem for _, problem in problems])

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
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Build a scenario from parsed YAML or JSON.

        Raises:
            ScenarioError: With every mistake: unknown and missing keys, wrong types, values out of range.
        """
        problems = find_mistakes(record)
        if problems:
            raise ScenarioError([problem for _, problem in problems])
        values = dict(record)
        for key, kind in (("head", HeadSpec), ("preprocessing", Preprocessing), ("augmentation", Augmentation)):
            if key in values:
                values[key] = kind(**values[key])
        values["phases"] = tuple(Phase(**phase) for phase in values["phases"])
        values["class_names"] = tuple(values["class_names"])
        values["planes"] = tuple(values.get("planes", ()))
        return cls(**values)
