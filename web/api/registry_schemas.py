"""The shapes of what the API says and takes about models and their registry.

Owns names and types only, as `web.api.schemas` does for the rest.
"""

from marshmallow import Schema, fields, validate

from db.queries.promotions import Standing
from db.states import Priority
from web.api.schemas import Job, Withdrawn


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
