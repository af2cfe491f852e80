"""Shapes of the API's answers and requests about sweeps and runs. Owns names and types only."""

from marshmallow import Schema, fields, validate

from db.queries.sweeps import NAME_LIMIT, TEXT_LIMIT
from db.states import RunState, SweepState
from web.api.schemas import Explained


class NewSweep(Schema):
    """A sweep to begin: scenarios as text, or the name of a scenario file that comes with the program."""

    name = fields.String(required=True, validate=validate.Length(1, NAME_LIMIT))
    dataset_id = fields.UUID(required=True)
    scenario_text = fields.String(
        load_default="", validate=validate.Length(max=TEXT_LIMIT), metadata={"description": "YAML"}
    )
    scenario_file = fields.String(load_default="", metadata={"description": "Such as `thesis.yaml`"})


class PageQuery(Schema):
    """Which page of a list."""

    page = fields.Integer(load_default=1, validate=validate.Range(1))
    page_size = fields.Integer(load_default=25, validate=validate.Range(1, 100))


class Mistake(Schema):
    """One mistake of a scenario text."""

    line = fields.Raw(allow_none=True, metadata={"description": "Counted from 1"})
    field = fields.String(allow_none=True)
    value = fields.Raw(allow_none=True)
    expected = fields.String(allow_none=True, metadata={"description": "What is allowed"})
    message = fields.String(allow_none=True)
    origin = fields.String(allow_none=True, metadata={"description": "The file, when it is one that was extended"})


class Sweep(Schema):
    """A sweep and how far it is."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    state = fields.Enum(SweepState, by_value=True, required=True)
    ended = fields.Boolean(required=True)
    dataset_id = fields.UUID(required=True)
    dataset = fields.String(required=True)
    begun_by = fields.String(required=True)
    scenario_file = fields.String(required=True)
    scenario_text = fields.String(required=True)
    problems = fields.List(fields.Nested(Mistake), required=True, metadata={"description": "Why it was refused"})
    code_version = fields.String(required=True)
    runs = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    epochs_done = fields.Integer(required=True)
    epochs_planned = fields.Integer(required=True, metadata={"description": "At most: runs may stop early"})
    seconds_left = fields.Float(
        allow_none=True, required=True, metadata={"description": "At most, from measured epochs; null: not known"}
    )
    unmeasured_runs = fields.Integer(
        required=True, metadata={"description": "Runs that are left and not in `seconds_left`"}
    )
    created_at = fields.AwareDateTime(required=True)
    started_at = fields.AwareDateTime(allow_none=True, required=True)
    finished_at = fields.AwareDateTime(allow_none=True, required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class SweepPage(Schema):
    """One page of sweeps, the newest first."""

    sweeps = fields.List(fields.Nested(Sweep), required=True)
    page = fields.Integer(required=True)
    page_size = fields.Integer(required=True)
    total = fields.Integer(required=True)


class Interval(Schema):
    """A number with its 95 % interval; each may be null."""

    value = fields.Float(allow_none=True)
    low = fields.Float(allow_none=True)
    high = fields.Float(allow_none=True)


class Run(Schema):
    """One training of one scenario."""

    id = fields.UUID(required=True)
    sweep_id = fields.UUID(required=True)
    name = fields.String(required=True)
    state = fields.Enum(RunState, by_value=True, required=True)
    ended = fields.Boolean(required=True)
    scenario = fields.Dict(required=True)
    scenario_digest = fields.String(required=True)
    attempts = fields.Integer(required=True)
    epochs_done = fields.Integer(required=True)
    epochs_planned = fields.Integer(required=True)
    best_epoch = fields.Integer(allow_none=True, required=True, metadata={"description": "Counted from 0"})
    metrics = fields.Dict(
        keys=fields.String(),
        values=fields.Nested(Interval),
        required=True,
        metadata={"description": "By `PART.NAME`; choose by `validation`, `test` says what to expect"},
    )
    failure = fields.Nested(Explained, allow_none=True, required=True)
    wall_s = fields.Float(required=True)
    images_per_s = fields.Float(allow_none=True, required=True)
    peak_memory_bytes = fields.Integer(allow_none=True, required=True)
    code_version = fields.String(required=True)
    weights_sha256 = fields.String(required=True)
    checkpoint_id = fields.UUID(allow_none=True, required=True)
    facts = fields.Dict(required=True)
    started_at = fields.AwareDateTime(allow_none=True, required=True)
    finished_at = fields.AwareDateTime(allow_none=True, required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class RunList(Schema):
    """The runs of a sweep, the best by validation first."""

    ordered_by = fields.String(required=True)
    runs = fields.List(fields.Nested(Run), required=True)


class Epoch(Schema):
    """What a run reported at the end of an epoch."""

    epoch = fields.Integer(required=True, metadata={"description": "Counted from 0"})
    recorded_at = fields.AwareDateTime(required=True)
    facts = fields.Dict(required=True)


class RunWithEpochs(Run):
    """A run with its epochs so far."""

    epochs = fields.List(fields.Nested(Epoch), required=True)


class RunExport(RunWithEpochs):
    """A run with its epochs and its report; the layout of the report is in docs/run-report.md."""

    report = fields.Dict(allow_none=True, required=True)


class SweepExport(Sweep):
    """A sweep with all its runs and their epochs."""

    all_runs = fields.List(fields.Nested(RunWithEpochs), required=True)
