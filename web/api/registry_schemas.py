"""The shapes of what the API says and takes about models and their registry.

Owns names and types only, as `web.api.schemas` does for the rest.
"""

from marshmallow import Schema, fields, validate

from db.queries.promotions import Standing
from db.states import JobState, Priority, RequestState
from web.api.schemas import Explained, Job, Withdrawn


class Period(Schema):
    """A time during which a model served."""

    promotion_id = fields.UUID(required=True)
    checkpoint_id = fields.UUID(required=True)
    name = fields.String(required=True)
    digest = fields.String(required=True)
    since = fields.AwareDateTime(required=True)
    until = fields.AwareDateTime(allow_none=True, required=True, metadata={"description": "null: it serves now"})
    promoted_by = fields.String(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(["promotion", "rollback"]))
    reason = fields.String(required=True)
    choices = fields.Dict(required=True, metadata={"description": "What was accepted explicitly"})


class Checkpoint(Schema):
    """A model that may serve."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    digest = fields.String(required=True, metadata={"description": "SHA-256 of the whole artefact file"})
    network = fields.String(required=True)
    class_names = fields.List(fields.String(), required=True)
    metrics = fields.Dict(required=True)
    serving = fields.Boolean(required=True)
    standing = fields.Enum(Standing, by_value=True, required=True)
    withdrawn = fields.Nested(Withdrawn, allow_none=True, required=True)
    created_at = fields.AwareDateTime(required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class CheckpointList(Schema):
    """All registered models, the serving one first."""

    checkpoints = fields.List(fields.Nested(Checkpoint), required=True)


class CheckpointDetail(Checkpoint):
    """A model with its manifest, card and history."""

    manifest = fields.Dict(required=True)
    model_card = fields.String(required=True)
    periods = fields.List(fields.Nested(Period), required=True)


class History(Schema):
    """Which model served when, the newest first; or the one that served at the moment asked for, or none."""

    periods = fields.List(fields.Nested(Period), required=True)


class HistoryQuery(Schema):
    """Which moment."""

    at = fields.AwareDateTime(
        load_default=None, default_timezone=None, metadata={"description": "With time zone; omit for all periods"}
    )


class Reason(Schema):
    """Why."""

    reason = fields.String(required=True, metadata={"description": "For the history, 1 to 500 characters"})


class NewPromotion(Reason):
    """A promotion to be."""

    accept_other_classes = fields.Boolean(load_default=False)
    seen = fields.UUID(
        load_default=None,
        allow_none=True,
        metadata={"description": "`promotion_id` in force as you know it; refused when it changed meanwhile"},
    )


class NewRollback(Reason):
    """A rollback to be."""

    seen = fields.UUID(load_default=None, allow_none=True)


class AffectedJob(Schema):
    """By which job results were made."""

    id = fields.UUID(required=True)
    title = fields.String(required=True)
    sent_by = fields.String(required=True)


class AffectedStudy(Schema):
    """A study with results of a model."""

    study_id = fields.UUID(required=True)
    title = fields.String(required=True)
    slices = fields.Integer(required=True)
    repeated = fields.Integer(required=True, metadata={"description": "Slices with a result of the serving model too"})
    first_at = fields.AwareDateTime(required=True)
    last_at = fields.AwareDateTime(required=True)
    jobs = fields.List(fields.Nested(AffectedJob), required=True)


class Affected(Schema):
    """Every study with results of a model, one page of them."""

    studies = fields.List(fields.Nested(AffectedStudy), required=True)
    total_studies = fields.Integer(required=True)
    total_slices = fields.Integer(required=True)
    repeated_slices = fields.Integer(required=True)
    page = fields.Integer(required=True)
    pages = fields.Integer(required=True)


class PageQuery(Schema):
    """Which page."""

    page = fields.Integer(load_default=1, validate=validate.Range(1, 100_000))


class NewRerun(Schema):
    """How urgent."""

    priority = fields.Enum(Priority, by_value=True, load_default=Priority.OFF_PEAK)


class NewReclassification(NewRerun):
    """Which studies: one, or all received in a period."""

    study_id = fields.UUID(load_default=None, allow_none=True)
    since = fields.AwareDateTime(load_default=None, allow_none=True)
    until = fields.AwareDateTime(load_default=None, allow_none=True)


class JobsStarted(Schema):
    """The jobs that were made."""

    jobs = fields.List(fields.Nested(Job), required=True)


class NewImport(Schema):
    """What a file is, and of weights from elsewhere what must be stated about them."""

    file_name = fields.String(load_default="model.neurosight", validate=validate.Length(1, 200))
    kind = fields.String(load_default="artefact", validate=validate.OneOf(["artefact", "weights"]))
    name = fields.String(load_default="", validate=validate.Length(max=128))
    network = fields.String(load_default="", metadata={"description": "A network of ours, such as densenet121"})
    units = fields.Integer(load_default=None, metadata={"description": "Of the dense layer of its head"})
    activation = fields.String(load_default="", metadata={"description": "softmax or sigmoid"})
    class_names = fields.String(load_default="", metadata={"description": "With commas, in the order of the scores"})
    size = fields.Integer(load_default=224, metadata={"description": "Side of the input, pixels"})
    median = fields.Float(load_default=None, metadata={"description": "Level of the median; 0 switches it off"})
    flatten = fields.Boolean(load_default=True, metadata={"description": "Whether all outside of the head is black"})
    origin = fields.String(load_default="", validate=validate.Length(max=300))


class Import(Schema):
    """A file that was taken in: `pending`, then `done` with a checkpoint, or `failed` with the reason."""

    id = fields.UUID(required=True)
    kind = fields.String(required=True)
    file_name = fields.String(required=True)
    sha256 = fields.String(required=True)
    state = fields.Enum(RequestState, by_value=True, required=True)
    failure = fields.Nested(Explained, allow_none=True, required=True)
    checkpoint_id = fields.UUID(allow_none=True, required=True)
    created_at = fields.AwareDateTime(required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class ImportList(Schema):
    """Files taken in lately, the newest first."""

    imports = fields.List(fields.Nested(Import), required=True)


class Export(Schema):
    """A model that is made of a run."""

    run_id = fields.UUID(required=True)
    state = fields.Enum(RequestState, by_value=True, required=True)
    failure = fields.Nested(Explained, allow_none=True, required=True)
    checkpoint_id = fields.UUID(allow_none=True, required=True)


class NewComparison(Schema):
    """On which slices: those held back by the run that made the candidate, unless a data set is named."""

    dataset_id = fields.UUID(load_default=None, allow_none=True)


class Comparison(Schema):
    """A candidate against the serving model; `result` is described in docs/registry.md."""

    id = fields.UUID(required=True)
    candidate_id = fields.UUID(required=True)
    reference_id = fields.UUID(required=True)
    state = fields.Enum(RequestState, by_value=True, required=True)
    result = fields.Dict(required=True)
    failure = fields.Nested(Explained, allow_none=True, required=True)
    created_at = fields.AwareDateTime(required=True)
    finished_at = fields.AwareDateTime(allow_none=True, required=True)


class NewShadow(Schema):
    """How many of the newest studies."""

    studies = fields.Integer(load_default=20)


class Agreement(Schema):
    """Slices by both models' classes."""

    reference = fields.String(required=True)
    candidate = fields.String(required=True)
    slices = fields.Integer(required=True)


class ChangedFinding(Schema):
    """Studies by both models' findings."""

    reference = fields.String(required=True)
    candidate = fields.String(required=True)
    studies = fields.Integer(required=True)


class ChangedSlice(Schema):
    """A slice on which the two differ."""

    study_id = fields.UUID(required=True)
    slice_id = fields.UUID(required=True)
    reference = fields.String(required=True)
    reference_probability = fields.Float(required=True)
    candidate = fields.String(required=True)
    candidate_probability = fields.Float(required=True)


class Shadow(Schema):
    """A shadow run as far as it is."""

    job_id = fields.UUID(required=True)
    candidate_id = fields.UUID(required=True)
    reference_id = fields.UUID(required=True)
    state = fields.Enum(JobState, by_value=True, required=True)
    studies = fields.Integer(required=True)
    total = fields.Integer(required=True)
    done = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    agreed = fields.Integer(required=True)
    agreement = fields.List(fields.Nested(Agreement), required=True)
    findings = fields.List(fields.Nested(ChangedFinding), required=True)
    changed = fields.List(fields.Nested(ChangedSlice), required=True)
    candidate_ms = fields.Float(allow_none=True, required=True)
    reference_ms = fields.Float(allow_none=True, required=True)
