"""Makes a checkpoint of a file that somebody sent: a whole artefact, or weights for a network of our registry.

Owns loading it with every check there is (the file is a stranger's) and trying it out before it is registered. Refuses
in words: whatever is wrong with the file ends the import with a sentence, not the worker's attempts.
"""

import tempfile
from pathlib import Path
from typing import Any

import structlog

from db.queries import claims
from db.queries import imports as rows
from db.queries.checkpoints import CheckpointFacts
from db.queries.claims import Claim
from db.registry import CheckpointImport
from worker import registering
from worker.context import Context
from worker.lease import Lease
from worker.without_tensorflow import is_installed

SENTENCE = 600
"""So much of a loader's own words is kept."""

log = structlog.get_logger(__name__)


class _Refused(Exception):
    """Why the file cannot become a checkpoint."""

    def __init__(self, code: str, says: str = "") -> None:
        super().__init__(code)
        self.code, self.detail = code, {"says": says[:SENTENCE]}


def run(context: Context, claim: Claim, lease: Lease) -> None:
    """Does a claimed import from beginning to end.

    Raises:
        LeaseLost: Somebody else has it; nothing was written.
        Exception: Whatever `worker.work` is to judge.
    """
    import_id = rows.named(claim, "import_id")
    with context.database.read() as session:
        wanted = rows.pending_import(session, import_id)
    if wanted is None:
        context.write(lease, lambda session: claims.finish(session, claim, note="gone"))
        return
    try:
        facts = _load(context, wanted)
    except _Refused as refused:
        why = refused
        context.write(lease, lambda session: rows.import_refused(session, claim, import_id, why.code, why.detail))
        log.warning("import_refused", import_id=str(import_id), code=refused.code)
        return
    lease.check()
    checkpoint = context.write(lease, lambda session: rows.import_done(session, claim, import_id, facts))
    log.info("imported", import_id=str(import_id), checkpoint_id=str(checkpoint.id), digest=facts.digest)


def _load(context: Context, wanted: CheckpointImport) -> CheckpointFacts:
    from inference.errors import InferenceError
    from inference.networks import NetworkError
    from inference.predictor import open_predictor

    name = Path(wanted.file_name).name.removesuffix(".neurosight") or "imported"
    with context.blobs.local_path(wanted.sha256) as source, tempfile.TemporaryDirectory(prefix="import-") as folder:
        path = source
        try:
            if wanted.kind == rows.WEIGHTS:
                path = Path(folder) / "imported.neurosight"
                _build(source, path, wanted)
            facts = registering.keep(path, str(wanted.parameters.get("name") or name), context.blobs)
            # It must not only load but run: a graph that cannot is found here and not by a patient's slice.
            open_predictor(path, facts.digest, context.settings.engine, context.settings.inference_threads).close()
        except (InferenceError, NetworkError) as error:
            raise _Refused("artefact_unusable", str(error)) from None
    return facts


def _build(source: Path, target: Path, wanted: CheckpointImport) -> None:
    """Puts weights from elsewhere into a network of the registry."""
    if not is_installed():
        raise _Refused("no_tensorflow")
    from imaging.preprocess import Preprocessing, PreprocessingError
    from inference.networks import HeadSpec
    from training.errors import TrainingError
    from training.foreign import ship_foreign

    stated: dict[str, Any] = wanted.parameters
    try:
        head = HeadSpec(
            units=int(stated["units"]), dropout=float(stated.get("dropout", 0.0)), activation=stated["activation"]
        )
        ship_foreign(
            source,
            target,
            str(stated["network"]),
            head,
            tuple(stated["class_names"]),
            Preprocessing(**stated.get("preprocessing", {})),
            str(stated.get("origin", "")),
        )
    except (TrainingError, PreprocessingError, TypeError, ValueError) as error:
        # The blob has no name of its own: the message is about the file that was sent.
        raise _Refused("weights_unusable", str(error).replace(source.name, wanted.file_name)) from None
