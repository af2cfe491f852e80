"""Computes a prediction again, from the stored file and under its own checkpoint, and compares.

Owns the verdict: `equal` to the bit (class, scores, probabilities and heatmap), `close` (every probability within
1e-4 and the same class), or `different`. Refuses to change the prediction itself.
"""

from sqlalchemy.orm import Session

from db.queries import classify as rows
from db.queries.claims import Claim, finish
from db.queries.classify import ReproductionToDo, SliceToDo
from imaging import heatmaps
from imaging.outcomes import RejectedFile
from inference.predictor import Prediction
from worker.classify import BLOB_MISSING, read_slices
from worker.context import Context
from worker.lease import Lease

CLOSE = 1e-4
"""Largest difference of a probability between engines and processors (see `inference.engines.base`)."""


def run(context: Context, claim: Claim, lease: Lease) -> None:
    """Does a claimed reproduce item; `arguments` names the reproduction by `reproduction_id`.

    Raises:
        LeaseLost: Somebody else has it; nothing was written.
        Exception: Whatever `worker.work` is to judge.
    """
    reproduction_id = rows.reproduction_of(claim)
    with context.database.read() as session:
        wanted = rows.load_reproduction(session, reproduction_id)
    if wanted is None:
        context.write(lease, lambda session: finish(session, claim, note="gone"))
        return
    state, largest_difference, detail = _compute(context, wanted)

    def record(session: Session) -> None:
        rows.record_reproduction(
            session,
            claim,
            reproduction_id,
            state=state,
            largest_difference=largest_difference,
            detail=detail,
        )

    context.write(lease, record)


def _compute(context: Context, wanted: ReproductionToDo) -> tuple[str, float | None, dict[str, object]]:
    missing: set[str] = set()
    todo = SliceToDo(wanted.reproduction_id, wanted.reproduction_id, wanted.content_sha256, wanted.frame_index)
    (pixels,) = read_slices(context, [todo], missing)
    if isinstance(pixels, RejectedFile):
        return "failed", None, {"code": BLOB_MISSING if missing else pixels.reason.value}
    with context.predictors.use(wanted.checkpoint_id) as predictor:
        (again,) = predictor.predict([pixels])
    return compare(wanted, again)


def compare(wanted: ReproductionToDo, again: Prediction) -> tuple[str, float, dict[str, object]]:
    """The verdict on a repetition.

    Returns:
        (`equal`, `close` or `different`; largest absolute difference of a probability; what differs).
    """
    names = wanted.probabilities.keys() | again.probabilities.keys()
    largest = max(abs(wanted.probabilities.get(name, 0.0) - again.probabilities.get(name, 0.0)) for name in names)
    same_class = wanted.class_name == again.class_name
    same_scores = list(wanted.scores) == list(again.scores)
    same_heatmap = wanted.heatmap_png is None or wanted.heatmap_png == heatmaps.encode(again.heatmap)
    detail: dict[str, object] = {
        "class_name": again.class_name,
        "probability": again.probability,
        "same_class": same_class,
        "same_scores": same_scores,
        "same_heatmap": same_heatmap,
    }
    if same_class and same_scores and same_heatmap and largest == 0.0:
        return "equal", largest, detail
    return ("close" if same_class and largest <= CLOSE else "different"), largest, detail
