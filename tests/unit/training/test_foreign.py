"""Weights from elsewhere fit, or are refused with a reason; nothing in them is trusted."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("h5py")

import h5py
import keras

from imaging.preprocess import Preprocessing
from inference import artefact
from inference.networks import HeadSpec, Network, build
from training.errors import WeightsError
from training.foreign import MAX_BYTES, load_foreign, ship_foreign

pytestmark = [
    pytest.mark.tensorflow,
    # Keras itself, when it saves a model of these tests.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

HEAD = HeadSpec(units=4, activation="sigmoid")
CLASSES = ("glioma", "meningioma")
IMAGES = np.random.default_rng(1).random((3, 48, 48, 1)).astype(np.float32)


def load(path: Path, head: HeadSpec = HEAD) -> Network:
    return load_foreign(path, "tiny", head, CLASSES, Preprocessing(size=48))


def elsewhere(nested: bool = False) -> Any:
    """The tiny network as somebody else would write it: colour input, other names, a head of their own."""
    layers = keras.layers
    images = keras.Input((48, 48, 3))
    x = images
    for channels in (8, 12, 16):
        x = layers.Conv2D(channels, 3, 2, "same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    if nested:
        base = keras.Model(images, x, name="their_backbone")
        images = keras.Input((48, 48, 3))
        x = base(images)
    x = layers.BatchNormalization(name="norm")(layers.GlobalAveragePooling2D()(x))
    x = layers.Dropout(0.5)(layers.Dense(4, "relu", name="fc")(x))
    model = keras.Model(images, layers.Dense(1, "sigmoid", name="out")(x))
    rng = np.random.default_rng(2)
    for variable in model.weights:
        value = rng.normal(0, 0.5, variable.shape)
        variable.assign(np.abs(value) + 0.5 if "variance" in variable.name else value)
    return model


def same(found: Network, model: Any) -> None:
    """Whether both say the same of the same slices, in our scaling of tiny to [-1, 1]."""
    colour = np.repeat(IMAGES, 3, axis=3) * 2 - 1
    theirs = np.asarray(model(colour, training=False))
    ours = 1 / (1 + np.exp(-np.asarray(found.model(IMAGES, training=False))))
    assert np.abs(ours - theirs).max() < 1e-5
    assert theirs.std() > 0


@pytest.mark.parametrize("nested", [False, True])
def test_keras_weights_of_somebody_elses_code_fit(tmp_path: Path, nested: bool) -> None:
    model = elsewhere(nested)
    model.save_weights(tmp_path / "m.weights.h5")

    same(load(tmp_path / "m.weights.h5"), model)


def write_old(path: Path, model: Any) -> None:
    """The layout of Keras 2, as its `save_weights` wrote it."""
    with h5py.File(path, "w") as file:
        layers = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = np.array([layer.name.encode() for layer in layers])
        for layer in layers:
            group = file.create_group(layer.name)
            owners = [(inner.name, w) for inner in getattr(layer, "layers", [layer]) for w in inner.weights]
            names = [f"{owner}/{weight.name}:0" for owner, weight in owners]
            group.attrs["weight_names"] = np.array([name.encode() for name in names])
            for name, (_, weight) in zip(names, owners, strict=True):
                group.create_dataset(name, data=np.asarray(weight))


@pytest.mark.parametrize("nested", [False, True])
def test_the_older_layout_fits(tmp_path: Path, nested: bool) -> None:
    model = elsewhere(nested)
    write_old(tmp_path / "m.h5", model)

    same(load(tmp_path / "m.h5"), model)


def test_our_own_weights_make_the_round_trip_as_h5_and_npz(tmp_path: Path) -> None:
    ours = build("tiny", 48, CLASSES, HEAD)
    ours.model.save_weights(tmp_path / "m.weights.h5")
    np.savez(tmp_path / "m.npz", **ours.weights())  # type: ignore[arg-type]
    np.savez_compressed(tmp_path / "small.npz", **ours.weights())  # type: ignore[arg-type]

    for name in ("m.weights.h5", "m.npz", "small.npz"):
        found = load(tmp_path / name).weights()
        assert all(np.array_equal(value, found[path]) for path, value in ours.weights().items()), name


def test_whole_models_are_refused_with_the_way_to_export_weights(tmp_path: Path) -> None:
    model = elsewhere()
    model.save(tmp_path / "m.keras")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = "{}"
    (tmp_path / "saved").mkdir()
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04N.")
    for name in ("m.keras", "m.h5", "saved", "m.pkl"):
        with pytest.raises(WeightsError, match=r"save_weights\(.model\.weights\.h5.\)"):
            load(tmp_path / name)


def test_weights_of_another_network_say_what_does_not_fit(tmp_path: Path) -> None:
    elsewhere().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(WeightsError, match=r"2 layers find no weights \(first: \['head_hidden \[\(16, 9\), \(9,\)\]'"):
        load(tmp_path / "m.weights.h5", HeadSpec(units=9, activation="sigmoid"))
    weights = build("tiny", 48, CLASSES, HEAD).weights()
    weights["extra/kernel"] = weights.pop("conv0/kernel")
    np.savez(tmp_path / "m.npz", **weights)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"1 missing \(first: \['conv0/kernel'\]\), 1 unknown"):
        load(tmp_path / "m.npz")


def _external_link(file: Any) -> None:
    file["layers/a/vars/0"] = h5py.ExternalLink("/etc/hostname", "/")


def _soft_link(file: Any) -> None:
    file["layers/a/vars/0"] = h5py.SoftLink("/b")


def _external_storage(file: Any) -> None:
    file.create_group("layers/a/vars").create_dataset("0", (4,), "f4", external=[("/etc/hostname", 0, 16)])


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_group("layers/a/vars").create_virtual_dataset("0", layout)


def _huge(file: Any) -> None:
    file.create_group("layers/a/vars").create_dataset("0", (MAX_BYTES,), "f4", chunks=(1024,), compression="gzip")


def _integers(file: Any) -> None:
    file.create_group("layers/a/vars").create_dataset("0", data=np.arange(3))


def _infinite(file: Any) -> None:
    file.create_group("layers/a/vars").create_dataset("0", data=np.array([np.inf], np.float32))


def _circle(file: Any) -> None:
    file.create_group("layers")["again"] = file["/"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_external_link, "links are not followed"),
        (_soft_link, "links are not followed"),
        (_external_storage, "from other files"),
        (_virtual, "from other files"),
        (_huge, "unpacks to more than"),
        (_integers, "holds int64; expected floating point"),
        (_infinite, "holds NaN, infinity"),
        (_circle, "more than 30 deep"),
    ],
)
def test_hostile_files_of_weights_are_refused(tmp_path: Path, write: Callable[[Any], None], message: str) -> None:
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        write(file)
    with pytest.raises(WeightsError, match=message):
        load(tmp_path / "m.weights.h5")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    elsewhere().save_weights(tmp_path / "m.weights.h5")
    whole = (tmp_path / "m.weights.h5").read_bytes()
    (tmp_path / "m.weights.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="not a readable file of Keras weights"):
        load(tmp_path / "m.weights.h5")
    (tmp_path / "m.npz").write_bytes(b"PK\x03\x04" + b"x" * 50)
    with pytest.raises(WeightsError, match="not a readable NumPy archive"):
        load(tmp_path / "m.npz")
    with pytest.raises(WeightsError, match=r"There is no file none\.npz"):
        load(tmp_path / "none.npz")


def test_hostile_archives_are_refused(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (exec, ("raise SystemExit",))

    objects: npt.NDArray[Any] = np.empty(1, object)
    objects[0] = Code()
    np.savez(tmp_path / "pickle.npz", a=objects)
    with pytest.raises(WeightsError, match="not a readable NumPy archive"):
        load(tmp_path / "pickle.npz")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("run.py", "x")
    with pytest.raises(WeightsError, match="a zip of other things"):
        load(tmp_path / "other.npz")
    np.savez(tmp_path / "whole.npz", a=np.arange(3))
    with pytest.raises(WeightsError, match=r"a\.npy holds int64"):
        load(tmp_path / "whole.npz")


def test_weights_from_elsewhere_become_an_artefact_that_promises_nothing(tmp_path: Path) -> None:
    model = elsewhere()
    model.save_weights(tmp_path / "m.weights.h5")
    target = tmp_path / "m.neurosight"
    digest = ship_foreign(
        tmp_path / "m.weights.h5", target, "tiny", HEAD, CLASSES, Preprocessing(size=48), "a hospital"
    )
    found = artefact.load(target, digest)

    assert found.manifest.network.head == HEAD
    assert found.manifest.planes == ()
    assert "Nothing is known of how good it is" in found.model_card
    assert "a hospital" in found.model_card
