"""Weights that were trained elsewhere.

Owns: reading files of Keras weights (`.weights.h5`, also the older layout of Keras 2) and `.npz` archives that may be
hostile, and matching them with a network of our registry. Refuses: whole models (`.keras`, `.h5` with an architecture,
pickles and whatever else can hold code): they are recognised and never opened; and weights that leave a variable open
or are left over themselves.

How layers are matched: by name, where a layer of the same name has variables of the same shapes; what remains, such as
the head or the unnamed layers of Xception, in the order of the file among variables of the same shapes.

The networks of the registry scale their input themselves, as their ImageNet weights want it. A network that was trained
on plain [0, 1] is one of those whose name ends in `_unit`.
"""

import hashlib
import io
import re
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from config.version import code_version
from imaging.preprocess import Preprocessing
from inference.export import ModelFacts, export
from inference.networks import HeadSpec, Network, NetworkError, build
from training.errors import WeightsError
from training.scoring import smooth_pictures

if TYPE_CHECKING:
    import h5py

MAX_BYTES: Final = 1024**3
_MAX_OBJECTS: Final = 20_000
_MAX_DEPTH: Final = 30
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_PLAIN_FILTERS: Final = frozenset({1, 2, 3})
"""Deflate, shuffle, checksum: what HDF5 itself holds. Others are libraries that it would look for and load."""
HOW_TO_EXPORT: Final = (
    "A whole Keras model can hold code and is never opened here. Where it was trained, in your own environment, run "
    '`keras.models.load_model("model.h5").save_weights("model.weights.h5")` and give that file.'
)

Arrays = list[npt.NDArray[Any]]
Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A layer with variables: its name, and the variables in their order."""

    name: str
    arrays: Arrays

    @property
    def shapes(self) -> Shapes:
        return tuple(array.shape for array in self.arrays)


def load_foreign(
    path: Path, network: str, head: HeadSpec, class_names: tuple[str, ...], preprocessing: Preprocessing
) -> Network:
    """Build a network of the registry with weights from elsewhere.

    Args:
        path: `.weights.h5`, or `.npz` with arrays by the variable paths of `Network.weights`; told apart by content.
        network: Name in the registry; with `_unit` at its end for a network that was trained on inputs in [0, 1].
        head: Its head; widths must be those of the file.
        class_names: In the order of the file's scores.
        preprocessing: How slices were, or shall be, prepared for it; `size` is the size of its input.

    Raises:
        WeightsError: The file is a whole model, is damaged or hostile, or does not fit.
        NetworkError: Network, head and classes do not go together.
    """
    content = _first_bytes(path)
    if content.startswith(_HDF5):
        layers = list(_read_hdf5(path))
    elif content.startswith(b"PK"):
        layers = None
        arrays = _read_npz(path)
    else:
        raise WeightsError(
            f"{path.name} is neither HDF5 nor a NumPy archive; expected .weights.h5 (Keras) or .npz (arrays by "
            f"variable path). {HOW_TO_EXPORT}"
        )
    built = build(network, preprocessing.size, class_names, head)
    if layers is not None:
        arrays = _match(path.name, built, layers)
    try:
        built.set_weights(arrays)
    except NetworkError as error:
        raise WeightsError(f"{path.name}: {error}") from None
    return built


def ship_foreign(
    source: Path,
    target: Path,
    network: str,
    head: HeadSpec,
    class_names: tuple[str, ...],
    preprocessing: Preprocessing,
    origin: str = "",
) -> str:
    """Write an artefact of weights from elsewhere; it has no measured numbers, and its card says so.

    Args:
        source: See `load_foreign`.
        target: Ends in `.neurosight`.
        network: See `load_foreign`.
        head: See `load_foreign`.
        class_names: See `load_foreign`.
        preprocessing: See `load_foreign`.
        origin: Where the weights come from, for the card.

    Returns:
        The artefact's digest.

    Raises:
        WeightsError: As `load_foreign`.
        NetworkError: As `load_foreign`.
        ExportError: The exported graph disagrees with the network.
        ArtefactError: A class name is none.
    """
    built = load_foreign(source, network, head, class_names, preprocessing)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = ModelFacts(
        preprocessing=preprocessing,
        temperature=1.0,
        planes=(),
        metrics={"weights_from_elsewhere": {"sha256": digest, "origin": origin}},
        dataset_fingerprint="unknown",
        code_version=code_version(),
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        model_card=_card(built, digest, origin),
    )
    return export(target, built, facts, smooth_pictures(preprocessing.size))


def _card(network: Network, digest: str, origin: str) -> str:
    head = network.head_spec
    return f"""# Model card: weights from elsewhere

**Research use only. Not a medical device; not for diagnosis.**

{network.name}; classes {", ".join(network.class_names)}; head of {head.units} units, {head.activation}; input
{network.input_size} x {network.input_size}. The weights were not trained by this software. File: SHA-256 `{digest}`.
Origin, as stated by whoever brought them: `{" ".join(origin.replace("`", "'").split()) or "not stated"}`.

**Nothing is known of how good it is.** Data, split, planes and results are unknown here; probabilities are not
calibrated. Compare it with the serving model on a test set before anyone sees what it says.
"""


def _first_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WeightsError(f"{path.name} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read.")
        with path.open("rb") as file:
            return file.read(8)
    except FileNotFoundError:
        raise WeightsError(f"There is no file {path.name}.") from None
    except IsADirectoryError:
        raise WeightsError(f"{path.name} is a folder, such as a SavedModel. {HOW_TO_EXPORT}") from None


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Arrays by name; sizes are checked before memory is taken."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = {entry.filename for entry in entries}
            if "config.json" in names or "metadata.json" in names:
                raise WeightsError(f"{path.name} is a whole Keras model (.keras). {HOW_TO_EXPORT}")
            if not names or not all(name.endswith(".npy") for name in names) or len(entries) > _MAX_OBJECTS:
                raise WeightsError(
                    f"{path.name} is a zip of other things than NumPy arrays; expected .npz with one array a variable."
                )
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise WeightsError(f"{path.name} unpacks to more than {MAX_BYTES} bytes, the most that is read.")
            for entry in entries:
                with archive.open(entry) as stream:
                    # No further than the entry says: what it says was counted above.
                    content = stream.read(entry.file_size + 1)
                array = np.load(io.BytesIO(content[: entry.file_size]), allow_pickle=False)
                arrays[entry.filename.removesuffix(".npy")] = _checked(path.name, entry.filename, array)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OSError, RuntimeError) as error:
        raise WeightsError(f"{path.name} is not a readable NumPy archive: {error}.") from None
    return arrays


def _read_hdf5(path: Path) -> Iterator[_Layer]:
    """The layers of a file of Keras weights, of either layout, in the file's order."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            if "model_config" in file.attrs or "model_weights" in file:
                raise WeightsError(f"{path.name} is a whole Keras model. {HOW_TO_EXPORT}")
            reader = _Hdf5(path.name)
            yield from reader.old(file) if "layer_names" in file.attrs else reader.new(file, "", 0)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path.name} is not a readable file of Keras weights: {error}.") from None


class _Hdf5:
    """Reads groups and arrays, trusting nothing."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._objects = self._bytes = 0

    def new(self, group: "h5py.Group", key: str, depth: int) -> Iterator[_Layer]:
        """The layout of Keras 3: `layers/KIND_NUMBER/vars/0`, with the layer's name as an attribute."""
        if depth > _MAX_DEPTH:
            raise WeightsError(f"{self._name}: groups stand more than {_MAX_DEPTH} deep; it is not a file of weights.")
        # A model within the model is the backbone: its layers come before those of the head around it.
        for child in sorted(group, key=lambda child: ("layers" not in self._keys(group, child), *_natural(child))):
            if child in ("seed_generator", "optimizer"):
                continue
            item = self._item(group, child)
            if child == "vars":
                arrays = [self._array(self._item(item, number)) for number in sorted(item, key=_natural)]
                if arrays:
                    named = item.attrs.get("name", key)
                    yield _Layer(named if isinstance(named, str) else key, arrays)
            else:
                yield from self.new(self._group(item, child), child, depth + 1)

    def old(self, file: "h5py.File") -> Iterator[_Layer]:
        """The layout of Keras 2: groups in `layer_names`, in each the arrays in `weight_names`."""
        layers: dict[str, Arrays] = {}
        for layer in file.attrs["layer_names"]:
            group = self._group(self._item(file, _text(layer)), _text(layer))
            for weight in group.attrs.get("weight_names", ()):
                parts = _text(weight).split("/")
                inner: Any = group
                for part in parts:
                    inner = self._item(inner, part)
                # A model within a model keeps the names of its own layers: the last but one part.
                layers.setdefault(parts[-2] if len(parts) > 1 else _text(layer), []).append(self._array(inner))
        yield from (_Layer(name, arrays) for name, arrays in layers.items())

    def _keys(self, group: "h5py.Group", child: str) -> set[str]:
        """The names in a group within a group; none for anything else."""
        import h5py

        item = self._item(group, child)
        return set(item) if isinstance(item, h5py.Group) else set()

    def _item(self, group: Any, key: str) -> Any:
        """A member that lies in this very file."""
        import h5py

        self._objects += 1
        if self._objects > _MAX_OBJECTS:
            raise WeightsError(f"{self._name} has more than {_MAX_OBJECTS} objects; it is not a file of weights.")
        if not isinstance(self._group(group, key).get(key, getlink=True), h5py.HardLink):
            raise WeightsError(f"{self._name}: {key[:80]!r} is missing or leads elsewhere; links are not followed.")
        return group[key]

    def _group(self, item: Any, key: str) -> "h5py.Group":
        import h5py

        if not isinstance(item, h5py.Group):
            raise WeightsError(f"{self._name}: {key[:80]!r} is no group; it is not a file of Keras weights.")
        return item

    def _array(self, item: Any) -> npt.NDArray[Any]:
        import h5py

        if not isinstance(item, h5py.Dataset):
            raise WeightsError(f"{self._name} holds a group where an array belongs; it is not a file of Keras weights.")
        plist = item.id.get_create_plist()
        filters = {plist.get_filter(number)[0] for number in range(plist.get_nfilters())}
        if item.is_virtual or item.external or not filters <= _PLAIN_FILTERS:
            raise WeightsError(
                f"{self._name}: {item.name} takes its values from other files or through other libraries; save the "
                "weights plainly."
            )
        if item.dtype.kind != "f" or item.ndim > 8 or item.size is None:
            raise WeightsError(f"{self._name}: {item.name} holds {item.dtype}; expected floating point numbers.")
        self._bytes += item.size * max(4, item.dtype.itemsize)
        if self._bytes > MAX_BYTES:
            raise WeightsError(f"{self._name} unpacks to more than {MAX_BYTES} bytes, the most that is read.")
        return _checked(self._name, str(item.name), item[()])


def _checked(file: str, name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if array.dtype.kind != "f":
        raise WeightsError(f"{file}: {name} holds {array.dtype}; expected floating point numbers.")
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise WeightsError(f"{file}: {name} holds NaN, infinity or numbers too large; the training there diverged.")
    return values


def _match(file: str, network: Network, layers: list[_Layer]) -> dict[str, npt.NDArray[Any]]:
    """The file's arrays by our variable paths.

    Raises:
        WeightsError: A layer of ours finds none, or one of the file's is left over.
    """
    wanted: dict[str, list[str]] = {}
    values = network.weights()
    for path in values:
        wanted.setdefault(path.rpartition("/")[0], []).append(path)
    shapes = {layer: tuple(values[path].shape for path in paths) for layer, paths in wanted.items()}
    found: dict[str, _Layer] = {}
    left = list(layers)
    for layer in wanted:
        same = [other for other in left if other.name == layer and other.shapes == shapes[layer]]
        if len(same) == 1:
            found[layer] = same[0]
            left.remove(same[0])
    missing = []
    for layer in wanted:
        if layer not in found:
            candidate = next((other for other in left if other.shapes == shapes[layer]), None)
            if candidate is None:
                missing.append(f"{layer} {list(shapes[layer])}")
            else:
                found[layer] = candidate
                left.remove(candidate)
    if missing or left:
        over = [f"{layer.name} {list(layer.shapes)}" for layer in left]
        raise WeightsError(
            f"{file} does not fit {network.name!r} with {len(network.class_names)} classes and {network.head_spec}: "
            f"{len(missing)} layers find no weights (first: {missing[:3]}), {len(over)} layers of the file have no "
            f"place (first: {over[:3]}). Name the right network, head and classes; the head must be global average "
            "pooling, batch normalisation, a dense layer, dropout and the scores."
        )
    return {
        path: array for layer, paths in wanted.items() for path, array in zip(paths, found[layer].arrays, strict=True)
    }


def _natural(key: str) -> tuple[str, int]:
    """Sorts conv2d, conv2d_1, conv2d_2, ..., conv2d_10."""
    match = re.fullmatch(r"(.*?)_?(\d{0,9})", key, re.DOTALL)
    return (match[1], int(match[2] or -1)) if match else (key, -1)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
