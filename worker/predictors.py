"""The models that a classify worker holds ready.

Owns loading a checkpoint's artefact by its digest, keeping at most two predictors (the serving one, and the one that
a running job has pinned), and following promotions. Refuses to serve anything but the exact bytes that were promoted:
when the promoted artefact is missing or altered, the old model stays loaded and says so.

OpenVINO (or TensorFlow) is imported when the first model is loaded, in the child process that uses it.
"""

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from config.settings import Settings
from db.artefacts import ArtefactAltered, ArtefactMissing, local_artefact, verify
from db.blobs import BlobStore
from db.queries import checkpoints
from db.session import Database
from worker.faults import Fatal, Transient

if TYPE_CHECKING:
    from inference.predictor import Predictor

KEEP = 2

log = structlog.get_logger(__name__)


class Predictors:
    """At most two predictors, the least recently used one dropped first.

    Args:
        settings: Engine, threads, folder of artefacts.
        database: Where checkpoints are registered.
        blobs: For artefacts that lie in the blob store.
    """

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        self._settings, self._database, self._blobs = settings, database, blobs
        self._lock = threading.RLock()
        self._loaded: OrderedDict[uuid.UUID, Predictor] = OrderedDict()
        self._in_use: set[uuid.UUID] = set()
        self._serving: uuid.UUID | None = None
        self._refused: uuid.UUID | None = None

    @contextmanager
    def use(self, checkpoint_id: uuid.UUID) -> Iterator["Predictor"]:
        """The predictor of a checkpoint, loaded if need be and kept while in use.

        Raises:
            Transient: When its artefact is missing here or is not the promoted one: an operator can mend that.
            Fatal: When the promoted bytes themselves cannot be used.
        """
        with self._lock:
            predictor = self._get(checkpoint_id)
            self._in_use.add(checkpoint_id)
        try:
            yield predictor
        finally:
            with self._lock:
                self._in_use.discard(checkpoint_id)

    def follow(self) -> None:
        """Loads the serving checkpoint when it is not the loaded one; on any fault the old model stays."""
        with self._database.read() as session:
            checkpoint = checkpoints.serving(session)
        if checkpoint is None or checkpoint.id == self._serving:
            return
        try:
            with self._lock:
                self._get(checkpoint.id)
                self._serving, self._refused = checkpoint.id, None
        except (Transient, Fatal) as error:
            if self._refused != checkpoint.id:
                log.error("serving_checkpoint_not_loaded", checkpoint_id=str(checkpoint.id), reason=error.code)
                self._refused = checkpoint.id

    @property
    def serving(self) -> uuid.UUID | None:
        """The checkpoint that was loaded because it serves; None before the first."""
        return self._serving

    def facts(self) -> dict[str, object]:
        """Engine and model, for the heartbeat."""
        with self._lock:
            loaded = self._loaded.get(self._serving) if self._serving else None
            return {
                "engine": describe(loaded) if loaded else "",
                "models_loaded": len(self._loaded),
                "checkpoint_refused": str(self._refused) if self._refused else None,
            }

    def close(self) -> None:
        """Ends all engines."""
        with self._lock:
            while self._loaded:
                self._loaded.popitem()[1].close()

    def _get(self, checkpoint_id: uuid.UUID) -> "Predictor":
        known = self._loaded.get(checkpoint_id)
        if known is None:
            known = self._load(checkpoint_id)
            self._loaded[checkpoint_id] = known
        self._loaded.move_to_end(checkpoint_id)
        return known

    def _make_room(self, path: Path, digest: str) -> None:
        """Drops models until one more may be loaded, so that never more than `KEEP` are in memory at once.

        First the file is verified, so that no model goes for one that cannot come. The serving model goes last, the
        one in use never: it is one at a time.
        """
        if len(self._loaded) < KEEP:
            return
        verify(path, digest)
        idle = [known for known in self._loaded if known not in self._in_use]
        for old in sorted(idle, key=lambda known: known == self._serving)[: len(self._loaded) - KEEP + 1]:
            self._loaded.pop(old).close()

    def _load(self, checkpoint_id: uuid.UUID) -> "Predictor":
        from inference.errors import ArtefactNotFoundError, DigestMismatchError, InferenceError
        from inference.predictor import open_predictor

        with self._database.read() as session:
            checkpoint = checkpoints.by_id(session, checkpoint_id)
        if checkpoint is None:
            raise Fatal("checkpoint_unknown", f"checkpoint {checkpoint_id} is not registered")
        try:
            with local_artefact(checkpoint.location, self._settings.models_dir, self._blobs) as path:
                self._make_room(path, checkpoint.digest)
                predictor = open_predictor(
                    path, checkpoint.digest, self._settings.engine, self._settings.inference_threads
                )
        except (ArtefactNotFoundError, ArtefactMissing):
            raise Transient("model_missing", f"the artefact of checkpoint {checkpoint_id} is missing here") from None
        except (DigestMismatchError, ArtefactAltered):
            raise Transient("model_altered", f"the artefact of checkpoint {checkpoint_id} was altered") from None
        except InferenceError as error:
            raise Fatal("model_unusable", f"checkpoint {checkpoint_id}: {error}") from None
        except ValueError as error:
            raise Fatal("checkpoint_location", str(error)) from None
        log.info("model_loaded", checkpoint_id=str(checkpoint_id), digest=checkpoint.digest, engine=describe(predictor))
        return predictor


def describe(predictor: "Predictor") -> str:
    """Engine and device, for rows and logs; at most 64 characters."""
    return f"{predictor.engine.name} ({predictor.engine.device})"[:64]
