"""The model artefact: one file, `*.neurosight`, that holds a model and all that is needed to use it.

Owns: the archive's layout, atomic writing, and verified loading. The file is a zip with exactly these members:

    manifest.json   what the model is (`inference.manifest`), with the SHA-256 of every other member
    weights.npz     variables by Keras path (`inference.weights`), for the TensorFlow engine and further training
    openvino.xml    the same network with Grad-CAM as OpenVINO graph ...
    openvino.bin    ... and its constants
    model_card.md   for people
    guard.npz       arrays of the guard (`inference.guard`); only where the model has one

The **digest** of a model is the SHA-256 of the whole file. Promotion names a digest, never a path: a worker loads
with `load(path, expected_digest)` and gets these bytes or an error.

Refuses: pickled objects, whole saved Keras models, members it does not know, anything that was not verified first.
The same content gives the same bytes (order, times and compression are fixed; another zlib may compress differently).
"""

import hashlib
import io
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference import guard as guards
from inference import manifest as manifests
from inference import weights as weight_files
from inference.errors import ArtefactError, ArtefactNotFoundError, DigestMismatchError
from inference.guard import Guard
from inference.manifest import Manifest, MemberFacts

SUFFIX: Final = ".neurosight"

MIB: Final = 1024 * 1024
MAX_FILE_BYTES: Final = 1024 * MIB
MEMBER_LIMITS: Final[Mapping[str, int]] = {
    "manifest.json": 4 * MIB,
    "weights.npz": 1024 * MIB,
    "openvino.xml": 64 * MIB,
    "openvino.bin": 1024 * MIB,
    "model_card.md": 4 * MIB,
    "guard.npz": 64 * MIB,
}
"""Members in the order in which they are written, and the most bytes each may unpack to."""
GUARD_MEMBER: Final = "guard.npz"
"""The only member that may be missing: not every model has a guard."""

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_RATIO_FLOOR_BYTES: Final = MIB
_MAX_RATIO: Final = 200
# Whatever zipfile raises for nonsense: bad structure or checksum, unknown method, negative offsets, damaged streams.
_UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    EOFError,
    RuntimeError,
    ValueError,
    OSError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Artefact:
    """A verified artefact in memory.

    Attributes:
        manifest: What the model is.
        digest: SHA-256 of the file, lower-case hexadecimal.
        openvino_xml: Graph for `openvino.Core.read_model`.
        openvino_bin: Its constants.
        weights_npz: Packed variables; see `weights`.
        model_card: Markdown.
        guard: When the model does not answer; None: it always does.
    """

    manifest: Manifest
    digest: str
    openvino_xml: bytes
    openvino_bin: bytes
    weights_npz: bytes
    model_card: str
    guard: Guard | None = field(default=None, compare=False)

    def weights(self) -> dict[str, npt.NDArray[np.floating[Any]]]:
        """Unpacks the variables, by Keras path.

        Raises:
            ArtefactError: If the arrays are not usable (wrong type, NaN, wrong size).
        """
        return weight_files.from_bytes(self.weights_npz)

    def __repr__(self) -> str:
        """Name and digest; never the arrays."""
        return f"Artefact({self.manifest.network.name}, sha256 {self.digest[:12]}...)"


def write(
    path: Path,
    manifest: Manifest,
    weights: weight_files.Weights,
    openvino_xml: bytes,
    openvino_bin: bytes,
    model_card: str,
    guard: Guard | None = None,
) -> str:
    """Writes an artefact: all of it or nothing, and only after it could be loaded again.

    Args:
        path: Where it shall be; must end in `.neurosight`. An existing file is replaced in one step.
        manifest: Without `members` and `guard`, which are filled here.
        weights: Variable path -> array.
        openvino_xml: The graph.
        openvino_bin: Its constants.
        model_card: Markdown.
        guard: A guard for this model, if there is one.

    Returns:
        The digest.

    Raises:
        ArtefactError: If the content could not be loaded again.
        OSError: If the file system refuses.
    """
    if path.suffix != SUFFIX:
        raise ArtefactError(f"an artefact's name ends in {SUFFIX}; received {path.name!r}.")
    members = {
        "weights.npz": weight_files.to_bytes(weights),
        "openvino.xml": openvino_xml,
        "openvino.bin": openvino_bin,
        "model_card.md": model_card.encode(),
    }
    if guard is not None:
        members[GUARD_MEMBER] = weight_files.to_bytes(guard.arrays())
    facts = {name: MemberFacts(hashlib.sha256(content).hexdigest(), len(content)) for name, content in members.items()}
    members["manifest.json"] = manifests.to_bytes(
        replace(manifest, members=facts, guard=guard.to_json() if guard else None)
    )
    content = _pack(members)
    digest = hashlib.sha256(content).hexdigest()
    _parse(content, digest).weights()
    _write_atomically(path, content)
    return digest


def load(path: Path, expected_digest: str | None = None) -> Artefact:
    """Reads and verifies an artefact.

    Args:
        path: The file.
        expected_digest: Lower-case hexadecimal SHA-256; the promoted digest. None only where a person names a file.

    Raises:
        ArtefactNotFoundError: If there is no such file.
        DigestMismatchError: If the file is not the expected one; nothing of it was parsed then.
        ArtefactError: If the file is not a valid artefact.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError):
        raise ArtefactNotFoundError(
            f"there is no model artefact {path.name!r} in {path.parent}. Name an existing {SUFFIX} file."
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise ArtefactError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes, the most a model artefact may have.")
    digest = hashlib.sha256(content).hexdigest()
    if expected_digest is not None and digest != expected_digest:
        raise DigestMismatchError(
            f"{path.name} has SHA-256 {digest}; expected {expected_digest}. The file is not the promoted model: "
            "restore it, or promote the new one on purpose."
        )
    return _parse(content, digest)


def _pack(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in MEMBER_LIMITS:
            if name not in members:
                continue
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # the default differs between operating systems
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, members[name], compresslevel=6)
    return buffer.getvalue()


def _parse(content: bytes, digest: str) -> Artefact:
    """Unpacks an archive that may be hostile."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _unpack(archive)
    except _UNREADABLE as error:
        raise ArtefactError(
            f"the file is not a readable model artefact: {error}. Copy it again from where it was made."
        ) from None
    manifest = manifests.from_bytes(members["manifest.json"])
    described = set(members) - {"manifest.json"}
    if set(manifest.members) != described or (manifest.guard is None) != (GUARD_MEMBER not in members):
        raise ArtefactError(f"manifest.json describes {sorted(manifest.members)}; expected {sorted(described)}.")
    for name, facts in manifest.members.items():
        member = members[name]
        if len(member) != facts.size_bytes or hashlib.sha256(member).hexdigest() != facts.sha256:
            raise ArtefactError(f"{name} is not the one that manifest.json describes: the artefact was altered.")
    try:
        model_card = members["model_card.md"].decode()
    except UnicodeDecodeError:
        raise ArtefactError("model_card.md is not UTF-8 text.") from None
    guard = None
    if manifest.guard is not None:
        arrays = weight_files.from_bytes(members[GUARD_MEMBER], GUARD_MEMBER)
        guard = guards.from_artefact(arrays, manifest.guard, len(manifest.class_names), manifest.feature_channels)
    return Artefact(
        manifest, digest, members["openvino.xml"], members["openvino.bin"], members["weights.npz"], model_card, guard
    )


def _unpack(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """The members' bytes, each within its limit."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries[: len(MEMBER_LIMITS) + 1]]
    if sorted(set(names) | {GUARD_MEMBER}) != sorted(MEMBER_LIMITS) or len(set(names)) != len(names):
        raise ArtefactError(
            f"the archive holds {names}; expected exactly {list(MEMBER_LIMITS)}, or these without {GUARD_MEMBER}."
        )
    members = {}
    for entry in entries:
        limit = MEMBER_LIMITS[entry.filename]
        allowed = max(_RATIO_FLOOR_BYTES, _MAX_RATIO * entry.compress_size)
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArtefactError(f"{entry.filename} is encrypted or packed in a way this software never uses.")
        if entry.file_size > min(limit, allowed):
            raise ArtefactError(
                f"{entry.filename} says it unpacks from {entry.compress_size} to {entry.file_size} bytes; at most "
                f"{limit} bytes and {_MAX_RATIO} times its packed size are accepted."
            )
        with archive.open(entry) as stream:
            # What the entry says of its size is not to be trusted: read one byte more than it may have, no further.
            member = stream.read(entry.file_size + 1)
        if len(member) != entry.file_size:
            raise ArtefactError(f"{entry.filename} unpacks to another size than it says: the artefact is damaged.")
        members[entry.filename] = member
    return members


def _write_atomically(path: Path, content: bytes) -> None:
    """Temporary file in the same folder, flushed to the disk, then renamed; the folder is flushed as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
