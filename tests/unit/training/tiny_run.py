"""A run of seconds for the tests: two classes, the smallest network, small pictures."""

from imaging.preprocess import Preprocessing
from inference.networks import HeadSpec
from training.augment import Augmentation
from training.scenario import Phase, Scenario

SCENARIO = Scenario(
    name="tiny",
    network="tiny",
    weights="none",
    class_names=("glioma", "no_tumor"),
    phases=(Phase(32, 1), Phase(48, 3)),
    samples_per_epoch={"glioma": 8, "no_tumor": 8},
    head=HeadSpec(units=8, dropout=0.1),
    preprocessing=Preprocessing(size=48),
    cache_size=64,
    augmentation=Augmentation(),
    batch=8,
    learning_rate=0.01,
    drop_path=0.0,
    ema_decay=0.5,
)
