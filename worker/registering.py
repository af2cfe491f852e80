"""From a verified artefact file to the facts that the registry keeps.

Owns the one way in which an artefact's bytes get into the blob store and become `CheckpointFacts`: from the models
folder, out of a run, or out of an import. Refuses a file that is not an artefact, or that changed while it was read.
"""

import json
from pathlib import Path

from db.blobs import BlobStore
from db.queries.checkpoints import CheckpointFacts


class ChangedWhileRead(Exception):
    """The file that was stored is not the one that was verified."""


def keep(path: Path, name: str, blobs: BlobStore) -> CheckpointFacts:
    """Verifies an artefact, stores its bytes, and returns what the registry keeps.

    Args:
        path: The file.
        name: Of the checkpoint.
        blobs: Where the bytes go.

    Raises:
        ArtefactError: The file is no artefact.
        ChangedWhileRead: It was replaced meanwhile.
        StoreFull: The disk is full.
    """
    from inference import artefact
    from inference.manifest import to_bytes

    loaded = artefact.load(path)
    with path.open("rb") as file:
        stored, _ = blobs.put(file)
    if stored != loaded.digest:
        raise ChangedWhileRead(f"{path.name} changed while it was read")
    return CheckpointFacts(
        name=name,
        digest=loaded.digest,
        location=f"blob:{stored}",
        network=loaded.manifest.network.name,
        class_names=tuple(loaded.manifest.class_names),
        manifest=json.loads(to_bytes(loaded.manifest)),
        model_card=loaded.model_card,
    )
