"""The manifest is read strictly: whatever is not exactly right is named."""

import json
from typing import Any

import pytest

from inference import manifest as manifests
from inference.artefact import load
from inference.errors import ArtefactError
from tests.tiny_artefact import TINY_ARTEFACT

GOOD = json.loads(manifests.to_bytes(load(TINY_ARTEFACT).manifest))


def changed(path: str, value: Any) -> bytes:
    """The good manifest with one value replaced (`del` removes it)."""
    record = json.loads(json.dumps(GOOD))
    *folders, last = path.split(".")
    place = record
    for folder in folders:
        place = place[folder]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(record).encode()


def test_round_trip() -> None:
    manifest = load(TINY_ARTEFACT).manifest
    assert manifests.from_bytes(manifests.to_bytes(manifest)) == manifest
    assert manifest.scores == 4


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "format_version",
            3,
            "format version 3; this software reads versions 1 and 2. Use the software version that wrote it",
        ),
        ("format_version", True, "format version True"),
        ("temperature", ..., r"lacks \['temperature'\]"),
        ("surprise", 1, r"unknown \['surprise'\]"),
        ("temperature", 0, r"temperature is 0\.0; expected a number above 0"),
        ("temperature", "1", "temperature is '1'; expected a finite number"),
        ("class_names", ["glioma"], "expected 2 to 1000 different names"),
        ("class_names", ["glioma", "glioma"], "expected 2 to 1000 different names"),
        ("class_names", ["glioma", "=cmd|' /C calc'!A0"], "class_names is .* expected lower-case letters"),
        ("class_names", "glioma", "class_names is 'glioma'; expected a list"),
        ("network.head.activation", "tanh", "network.head.activation is 'tanh'; expected softmax or sigmoid"),
        ("network.head.activation", "sigmoid", "expected exactly two names for a sigmoid head"),
        ("network.head.units", 0, "network.head.units is 0; expected a whole number from 1"),
        ("network.head.dropout", 1, "network.head.dropout is 1.0; expected 0 or more and less than 1"),
        ("network.name", "../x", "network.name is '../x'"),
        ("network.input_size", 10**6, "network.input_size is 1000000; expected a whole number from 16 to 4096"),
        ("network.input_size", 128, "preprocessing.size is 64; expected the network's input size, 128"),
        ("preprocessing.size", "64", "preprocessing cannot be used"),
        ("preprocessing.median", ..., "preprocessing cannot be used"),
        ("planes", "axial", "planes is 'axial'; expected a list"),
        ("planes", ["axial", "axial"], "expected some of axial"),
        ("planes", [{}], "expected some of axial"),
        ("grid", [8], "grid is .* expected two whole numbers"),
        ("grid", [8, 2**40], "grid is .* expected a whole number"),
        ("created_at", "yesterday", "created_at is 'yesterday'; expected YYYY-MM-DDThh:mm:ssZ"),
        ("dataset_fingerprint", "", "expected text of 1 to 1000 characters"),
        ("metrics", [], "metrics is .*; expected an object"),
        ("members", {"openvino.xml": {"sha256": "0"}}, r"members\.openvino\.xml lacks \['size_bytes'\]"),
        ("members", {"a": {"sha256": "zz", "size_bytes": 1}}, "expected 64 lower-case hexadecimal digits"),
    ],
)
def test_every_wrong_value_is_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        manifests.from_bytes(changed(path, value))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "holds a list; expected an object"),
        (b'{"format_version": 1, "format_version": 1}', "a key stands there twice"),
        (json.dumps(GOOD | {"temperature": float("nan")}).encode(), "NaN is not JSON"),
    ],
)
def test_what_is_no_manifest_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        manifests.from_bytes(content)
