"""The manifest of a model artefact: everything about a model that is not an array.

Owns: the typed record, its JSON form, and the strict reading of that form. Refuses: to touch files and archives
(`inference.artefact`), to know a network's layers, to guess a value that is missing.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from imaging.preprocess import Preprocessing, PreprocessingError
from inference.errors import ArtefactError
from inference.guard import check_facts
from inference.networks import HeadSpec

FORMAT_VERSION: Final = 1
GUARDED_VERSION: Final = 2
"""Of an artefact with a guard: software that knows only version 1 refuses it and does not answer without one."""
PLANES: Final = ("axial", "coronal", "sagittal")

_CLASS_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,62}")
_NETWORK_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,62}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What is needed to build the network again from `inference.networks`.

    Attributes:
        name: Name in the registry.
        input_size: S of the input (n, S, S, 1).
        head: The head.
    """

    name: str
    input_size: int
    head: HeadSpec


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """One member of the archive.

    Attributes:
        sha256: Of the unpacked bytes, lower-case hexadecimal.
        size_bytes: Of the unpacked bytes.
    """

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a user of the model must know about it.

    Attributes:
        network: How to build it.
        grid: Rows and columns of the heatmap.
        feature_channels: Length of the pooled feature vector.
        class_names: In the order of the probabilities; lower case, digits and underscores. At least two.
        preprocessing: How pixels are prepared.
        temperature: By which scores are divided before softmax or sigmoid; 1 when uncalibrated.
        planes: Anatomical planes the model was trained on; empty when nobody knows.
        metrics: Measured results, any JSON.
        dataset_fingerprint: Identifies the training data and its split.
        code_version: Of the code that trained and exported it.
        created_at: UTC, `YYYY-MM-DDThh:mm:ssZ`.
        export: How the OpenVINO graph was made and how closely it agrees, any JSON.
        members: Filled by `inference.artefact.write`.
        guard: Limits of the guard and how it was fitted (`inference.guard`); None when the model has none.
        format_version: Of the archive's layout: `GUARDED_VERSION` with a guard, else `FORMAT_VERSION`.
    """

    network: NetworkFacts
    grid: tuple[int, int]
    feature_channels: int
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float
    planes: tuple[str, ...]
    metrics: Mapping[str, Any]
    dataset_fingerprint: str
    code_version: str
    created_at: str
    export: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, MemberFacts] = field(default_factory=dict)
    guard: Mapping[str, Any] | None = None

    @property
    def format_version(self) -> int:
        """Of the archive's layout."""
        return FORMAT_VERSION if self.guard is None else GUARDED_VERSION

    @property
    def scores(self) -> int:
        """Number of scores a slice: one a class, or a single one for a sigmoid head."""
        return 1 if self.network.head.activation == "sigmoid" else len(self.class_names)


def to_bytes(manifest: Manifest) -> bytes:
    """The manifest as JSON: sorted keys, UTF-8, always the same bytes for the same manifest.

    Raises:
        ArtefactError: If the manifest breaks its own rules (see `from_bytes`) or holds something JSON cannot express.
    """
    record = asdict(manifest) | {
        "preprocessing": manifest.preprocessing.to_json(),
        "format_version": manifest.format_version,
    }
    if manifest.guard is None:
        del record["guard"]  # version 1 has no such key
    try:
        text = json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArtefactError(
            f"the manifest cannot be written as JSON: {error}. metrics and export may hold only text, finite numbers, "
            "true, false, null, lists and mappings with text keys."
        ) from None
    content = text.encode() + b"\n"
    from_bytes(content)
    return content


def from_bytes(content: bytes) -> Manifest:
    """Reads a manifest strictly: no missing, unknown or repeated key, no value out of range.

    Args:
        content: UTF-8 JSON.

    Raises:
        ArtefactError: Naming the key, what it holds and what it should hold.
    """
    try:
        record = json.loads(content.decode(), object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"manifest.json is not valid JSON: {error}. The artefact was not written by us.") from None
    if not isinstance(record, dict):
        raise ArtefactError(f"manifest.json holds a {type(record).__name__}; expected an object.")
    version = record.get("format_version")
    # Before anything else: another version may have other keys.
    if type(version) is not int or version not in (FORMAT_VERSION, GUARDED_VERSION):
        raise ArtefactError(
            f"the artefact has format version {version!r}; this software reads versions {FORMAT_VERSION} and "
            f"{GUARDED_VERSION}. Use the software version that wrote it, or export the model again."
        )
    names = set(Manifest.__dataclass_fields__) | {"format_version"}
    return _manifest(_keys(record, "manifest", names if version == GUARDED_VERSION else names - {"guard"}))


def _manifest(top: dict[str, Any]) -> Manifest:
    """The typed manifest of a parsed record with the right keys."""
    network = _keys(top["network"], "network", set(NetworkFacts.__dataclass_fields__))
    head = _keys(network["head"], "network.head", set(HeadSpec.__dataclass_fields__))
    activation = head["activation"]
    if activation not in ("softmax", "sigmoid"):
        raise _wrong("network.head.activation", activation, "softmax or sigmoid")
    dropout = _number(head["dropout"], "network.head.dropout")
    if not 0 <= dropout < 1:
        raise _wrong("network.head.dropout", dropout, "0 or more and less than 1")
    facts = NetworkFacts(
        _matching(network["name"], "network.name", _NETWORK_NAME, "lower-case letters, digits and underscores"),
        _whole(network["input_size"], "network.input_size", 16, 4096),
        HeadSpec(_whole(head["units"], "network.head.units", 1, 65_536), dropout, activation),
    )

    class_names = tuple(
        _matching(name, "class_names", _CLASS_NAME, "lower-case letters, digits and underscores")
        for name in _list(top["class_names"], "class_names")
    )
    if not 2 <= len(class_names) <= 1000 or len(set(class_names)) != len(class_names):
        raise _wrong("class_names", class_names, "2 to 1000 different names")
    if activation == "sigmoid" and len(class_names) != 2:
        raise _wrong("class_names", class_names, "exactly two names for a sigmoid head")

    try:
        preprocessing = Preprocessing.from_json(_object(top["preprocessing"], "preprocessing"))
    except (PreprocessingError, TypeError) as error:
        raise ArtefactError(f"manifest.json: preprocessing cannot be used: {error}") from None
    if preprocessing.size != facts.input_size:
        raise _wrong("preprocessing.size", preprocessing.size, f"the network's input size, {facts.input_size}")

    temperature = _number(top["temperature"], "temperature")
    if temperature <= 0:
        raise _wrong("temperature", temperature, "a number above 0 (1 when uncalibrated)")
    planes = tuple(_list(top["planes"], "planes"))
    if len(set(map(str, planes))) != len(planes) or not all(plane in PLANES for plane in planes):
        raise _wrong("planes", planes, "some of axial, coronal, sagittal, each once")
    grid = _list(top["grid"], "grid")
    if len(grid) != 2:
        raise _wrong("grid", grid, "two whole numbers, rows and columns")

    return Manifest(
        network=facts,
        grid=(_whole(grid[0], "grid", 1, 4096), _whole(grid[1], "grid", 1, 4096)),
        feature_channels=_whole(top["feature_channels"], "feature_channels", 1, 1_000_000),
        class_names=class_names,
        preprocessing=preprocessing,
        temperature=temperature,
        planes=planes,
        metrics=_object(top["metrics"], "metrics"),
        dataset_fingerprint=_text(top["dataset_fingerprint"], "dataset_fingerprint"),
        code_version=_text(top["code_version"], "code_version"),
        created_at=_matching(top["created_at"], "created_at", _INSTANT, "YYYY-MM-DDThh:mm:ssZ"),
        export=_object(top["export"], "export"),
        members={name: _member(value, name) for name, value in _object(top["members"], "members").items()},
        guard=_guard(top["guard"]) if "guard" in top else None,
    )


def _guard(value: object) -> dict[str, Any]:
    facts = _object(value, "guard")
    check_facts(facts)
    return facts


def _member(value: object, name: str) -> MemberFacts:
    where = f"members.{name}"
    record = _keys(value, where, set(MemberFacts.__dataclass_fields__))
    digest = _matching(record["sha256"], f"{where}.sha256", _SHA256, "64 lower-case hexadecimal digits")
    return MemberFacts(digest, _whole(record["size_bytes"], f"{where}.size_bytes", 0, 2**40))


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key stands there twice")
    return record


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _wrong(where: str, received: object, expected: str) -> ArtefactError:
    shown = repr(received)
    shown = shown if len(shown) <= 200 else shown[:200] + "..."
    return ArtefactError(f"manifest.json: {where} is {shown}; expected {expected}.")


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    return value


def _keys(value: object, where: str, names: set[str]) -> dict[str, Any]:
    record = _object(value, where)
    if set(record) != names:
        missing, unknown = sorted(names - set(record)), sorted(set(record) - names)
        raise ArtefactError(
            f"manifest.json: {where} lacks {missing or 'nothing'} and has unknown {unknown or 'nothing'}."
        )
    return record


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, value, "a list")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 1000:
        raise _wrong(where, value, "text of 1 to 1000 characters")
    return value


def _matching(value: object, where: str, pattern: re.Pattern[str], expected: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _wrong(where, value, expected)
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(where, value, "a finite number")
    return float(value)


def _whole(value: object, where: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _wrong(where, value, f"a whole number from {least} to {most}")
    return value
