"""The shapes of the API's answers and requests, as they stand in the OpenAPI document.

Owns names and types only; the values are built in `db.queries` and the views.
"""

from marshmallow import Schema, fields, validate

from db.queries.erasure import EraseReason
from db.queries.results import NOTICE
from db.states import JobState, Priority, Purpose, Role
from imaging.heatmaps import COLOUR_MAPS, DEFAULT_COLOUR_MAP, DEFAULT_OPACITY
from web.erasing import REASONS


class Me(Schema):
    """The logged-in user."""

    id = fields.UUID(required=True)
    username = fields.String(required=True)
    display_name = fields.String(required=True)
    role = fields.Enum(Role, by_value=True, required=True)
    must_change_password = fields.Boolean(required=True)
    via = fields.String(required=True, validate=validate.OneOf(["session", "token"]))


class Token(Schema):
    """An API token, without the token itself."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)
    expires_at = fields.AwareDateTime(allow_none=True)
    last_used_at = fields.AwareDateTime(allow_none=True)
    revoked_at = fields.AwareDateTime(allow_none=True)


class TokenList(Schema):
    """A user's API tokens."""

    tokens = fields.List(fields.Nested(Token), required=True)


class NewToken(Schema):
    """What a new API token shall be."""

    name = fields.String(required=True, validate=validate.Length(1, 64))
    expires_in_days = fields.Integer(load_default=90, allow_none=True, validate=validate.Range(1, 3650))


class TokenShown(Token):
    """A new API token with the token itself: shown once."""

    token = fields.String(required=True)


class Notice(Schema):
    """Carried by everything that holds results."""

    notice = fields.Constant(NOTICE, required=True)


class Explained(Schema):
    """A machine-readable code with its English sentence."""

    code = fields.String(required=True)
    sentence = fields.String(required=True)


class SliceCounts(Schema):
    """Slices of a job by state; they add up to `total`."""

    total = fields.Integer(required=True)
    pending = fields.Integer(required=True)
    done = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    cancelled = fields.Integer(required=True)
    left_out = fields.Integer(required=True, metadata={"description": "Not to be classified, by plane or series"})


class FileCounts(Schema):
    """Files of a job."""

    sent = fields.Integer(required=True, metadata={"description": "Files as sent; an archive counts as one"})
    opened = fields.Integer(allow_none=True, metadata={"description": "Looked at so far, while they are being opened"})
    outcomes = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)


class StudyRef(Schema):
    """A study to which a job contributed."""

    id = fields.UUID(required=True)
    title = fields.String(required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class Job(Schema):
    """A submission and how far it is. `succeeded` means that every accepted slice has its result."""

    id = fields.UUID(required=True)
    title = fields.String(required=True)
    state = fields.Enum(JobState, by_value=True, required=True)
    ended = fields.Boolean(required=True)
    priority = fields.Enum(Priority, by_value=True, required=True)
    purpose = fields.Enum(Purpose, by_value=True, required=True)
    sent_by = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)
    finished_at = fields.AwareDateTime(allow_none=True, required=True)
    files = fields.Nested(FileCounts, required=True)
    slices = fields.Nested(SliceCounts, required=True)
    fraction = fields.Float(required=True, metadata={"description": "Settled part of the slices, in [0, 1]"})
    jobs_ahead = fields.Integer(allow_none=True, required=True)
    seconds_left = fields.Float(
        allow_none=True, required=True, metadata={"description": "From measured speed; null when it is not known"}
    )
    waits_for = fields.Nested(Explained, allow_none=True, required=True)
    failure = fields.Nested(Explained, allow_none=True, required=True)
    checkpoint_digest = fields.String(required=True)
    duplicate_of = fields.UUID(allow_none=True, required=True, metadata={"description": "Earlier job, same content"})
    studies = fields.List(fields.Nested(StudyRef), required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class JobPage(Schema):
    """One page of jobs, the newest first."""

    jobs = fields.List(fields.Nested(Job), required=True)
    page = fields.Integer(required=True)
    page_size = fields.Integer(required=True)
    total = fields.Integer(required=True)


class JobFilter(Schema):
    """Which jobs."""

    state = fields.List(fields.Enum(JobState, by_value=True), load_default=list)
    text = fields.String(load_default="", validate=validate.Length(max=200))
    mine = fields.Boolean(load_default=False)
    page = fields.Integer(load_default=1, validate=validate.Range(1, 100_000))
    page_size = fields.Integer(load_default=25, validate=validate.Range(1, 100))


class ReceiptLine(Schema):
    """What became of one received file."""

    sequence = fields.Integer(required=True)
    path = fields.String(required=True)
    size_bytes = fields.Integer(allow_none=True, required=True)
    sha256 = fields.String(allow_none=True, required=True)
    outcome = fields.String(required=True)
    reason = fields.Nested(Explained, allow_none=True, required=True)
    slices = fields.Integer(required=True)
    study_id = fields.UUID(allow_none=True, required=True)
    study_instance_uid = fields.String(required=True)
    accession_number = fields.String(required=True)


class Receipt(Notice):
    """Every file of a job, with what became of it; the counts add up to `total`."""

    job_id = fields.UUID(required=True)
    total = fields.Integer(required=True)
    outcomes = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    files = fields.List(fields.Nested(ReceiptLine), required=True)


class NewUpload(Schema):
    """An upload to be."""

    title = fields.String(load_default="", validate=validate.Length(max=200))
    priority = fields.Enum(Priority, by_value=True, load_default=Priority.NORMAL)


class UploadedFile(Schema):
    """A file that has arrived."""

    path = fields.String(required=True)
    sha256 = fields.String(required=True)
    size_bytes = fields.Integer(required=True)


class Upload(Schema):
    """An upload and what has arrived of it."""

    id = fields.UUID(required=True)
    title = fields.String(required=True)
    priority = fields.Enum(Priority, by_value=True, required=True)
    state = fields.String(required=True, validate=validate.OneOf(["receiving", "completed", "abandoned"]))
    expires_at = fields.AwareDateTime(required=True)
    files = fields.List(fields.Nested(UploadedFile), required=True)
    job_id = fields.UUID(allow_none=True, required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class FilePath(Schema):
    """Under which name a file is kept."""

    path = fields.String(required=True, validate=validate.Length(1, 4096))


class SubmissionQuery(Schema):
    """What belongs to a body that is one archive."""

    title = fields.String(load_default="", validate=validate.Length(max=200))
    priority = fields.Enum(Priority, by_value=True, load_default=Priority.NORMAL)
    filename = fields.String(load_default="study.zip", validate=validate.Length(1, 1024))


class Identity(Schema):
    """Who a study is of; present for clinicians, admins, and whoever sent it."""

    patient_name = fields.String(required=True)
    patient_id = fields.String(required=True)
    birth_date = fields.String(required=True)
    sex = fields.String(required=True)
    accession_number = fields.String(required=True)


class ClassSupport(Schema):
    """How much speaks for one class."""

    class_name = fields.String(required=True)
    slices = fields.Integer(required=True)
    firm_slices = fields.Integer(required=True)
    peak_probability = fields.Float(required=True)
    is_tumour = fields.Boolean(required=True)


class Summary(Schema):
    """What the slices of a study say together, and the rule by which it was made."""

    finding = fields.String(required=True)
    leading_class = fields.String(allow_none=True, required=True)
    other_classes = fields.List(fields.String(), required=True)
    support = fields.List(fields.Nested(ClassSupport), required=True)
    analysed = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    waiting = fields.Integer(required=True)
    not_asked = fields.Integer(required=True, metadata={"description": "Analysed by another model only"})
    left_out = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "Slices not to be classified: `plane_not_trained`, `scout`, `series_not_chosen`"},
    )
    abstained = fields.Integer(required=True, metadata={"description": "The model did not answer; not in `analysed`"})
    rule = fields.String(required=True)


class Withdrawn(Schema):
    """Why results of a model are not to be relied on."""

    since = fields.AwareDateTime(required=True)
    reason = fields.String(required=True)


class ModelRef(Schema):
    """Which model made the results."""

    name = fields.String(required=True)
    digest = fields.String(required=True)
    network = fields.String(required=True)
    withdrawn = fields.Nested(Withdrawn, allow_none=True, required=True)


class ModelChoice(ModelRef):
    """A model with results of a study; ask for them by `checkpoint=DIGEST`."""

    slices = fields.Integer(required=True)


class StudyQuery(Schema):
    """Whose results of a study."""

    checkpoint = fields.String(
        load_default="", validate=validate.Regexp(r"^([0-9a-f]{64})?$"), metadata={"description": "Digest of a model"}
    )


class SeriesChoice(StudyQuery):
    """Which series of a study are to be classified."""

    chosen = fields.List(
        fields.UUID(), required=True, metadata={"description": "Their ids; every other series of the study is left"}
    )


class LeftOutRequest(StudyQuery):
    """Asks for slices that were left out for their plane."""


class ChoiceChanged(Schema):
    """What came of it."""

    job_id = fields.UUID(allow_none=True, required=True, metadata={"description": "Classifies what was missing"})
    slices = fields.Integer(required=True, metadata={"description": "Slices of that job"})
    chosen = fields.Integer(required=True, metadata={"description": "Series that are classified from now on"})
    left = fields.Integer(required=True, metadata={"description": "Series that are not any more"})


class SeriesRef(Schema):
    """One series of a study."""

    id = fields.UUID(required=True)
    number = fields.Integer(allow_none=True, required=True)
    description = fields.String(required=True)
    modality = fields.String(required=True)
    plane = fields.String(allow_none=True, required=True)
    sequence = fields.String(
        allow_none=True,
        required=True,
        metadata={"description": "Guessed from the header: T1, T1+C (with contrast), T2, FLAIR, PD, DWI, ..."},
    )
    pixel_spacing_mm = fields.List(
        fields.Float(), allow_none=True, required=True, metadata={"description": "Between rows, between columns"}
    )
    slice_spacing_mm = fields.Float(
        allow_none=True, required=True, metadata={"description": "Between the middles of neighbouring slices"}
    )
    series_instance_uid = fields.String(required=True)
    slices = fields.Integer(required=True)
    analysed = fields.Integer(required=True)
    untrained = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "Slices in planes that the model was not trained on, scouts among them"},
    )
    chosen = fields.Boolean(required=True, metadata={"description": "Whether its slices are classified"})
    chosen_by = fields.String(
        required=True, metadata={"description": "The rule that decided, `user`, or empty when no rule held"}
    )


class Study(Notice):
    """A study, its series and its summary."""

    id = fields.UUID(required=True)
    title = fields.String(required=True)
    study_instance_uid = fields.String(required=True)
    study_date = fields.String(required=True)
    description = fields.String(required=True)
    deidentified = fields.Boolean(
        required=True, metadata={"description": "De-identified at intake: UIDs and dates are not the scanner's"}
    )
    identity = fields.Nested(Identity, allow_none=True, required=True)
    series = fields.List(fields.Nested(SeriesRef), required=True)
    summary = fields.Nested(Summary, required=True)
    model = fields.Nested(ModelRef, allow_none=True, required=True)
    models = fields.List(fields.Nested(ModelChoice), required=True)
    jobs = fields.List(fields.UUID(), required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class StudyDeletion(Schema):
    """Why a study is deleted; kept in the audit trail."""

    reason = fields.Enum(EraseReason, by_value=True, required=True, validate=validate.OneOf(REASONS))


class StudyDeleted(Schema):
    """What went with a deleted study; `samples` are pictures of data sets, which stay."""

    id = fields.UUID(required=True)
    series = fields.Integer(required=True)
    slices = fields.Integer(required=True)
    predictions = fields.Integer(required=True)
    decisions = fields.Integer(required=True)
    jobs = fields.Integer(required=True)
    samples = fields.Integer(required=True)


class Prediction(Schema):
    """What the model said of one slice."""

    id = fields.UUID(required=True)
    class_name = fields.String(required=True)
    probability = fields.Float(required=True, metadata={"description": "Calibrated, in [0, 1]"})
    probabilities = fields.Dict(keys=fields.String(), values=fields.Float(), required=True)
    abstention = fields.String(
        required=True,
        metadata={
            "description": "Why the model does not answer (`blank`, `bright_border`, `unlike_training`, `turned`, "
            "`unsure`), or empty. Class and probabilities are then what the network said, and no result."
        },
    )
    guard = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        required=True,
        metadata={"description": "Checks of the guard as shares of their limits; empty for a model without one"},
    )
    heatmap_warning = fields.String(
        required=True,
        metadata={"description": "`nothing_speaks_for_it`, `outside_the_head`, `on_the_border`, or empty"},
    )
    engine = fields.String(required=True)
    code_version = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)
    withdrawn = fields.Nested(Withdrawn, allow_none=True, required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class Decision(Schema):
    """What a clinician decided about a slice."""

    id = fields.UUID(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(["class", "not_assessable", "taken_back"]))
    label = fields.String(required=True, metadata={"description": "The class; empty unless `kind` is `class`"})
    decided_by = fields.String(required=True)
    decided_at = fields.AwareDateTime(required=True)
    note = fields.String(required=True)


class DecisionList(Schema):
    """Every decision about a slice, the newest first; the newest stands."""

    slice_id = fields.UUID(required=True)
    decisions = fields.List(fields.Nested(Decision), required=True)


class NewDecision(Schema):
    """A decision about a slice."""

    kind = fields.String(
        required=True,
        validate=validate.OneOf(["class", "not_assessable", "undo"]),
        metadata={"description": "`undo` takes the newest decision back: what stood before it stands again"},
    )
    label = fields.String(load_default="", validate=validate.Length(max=64))
    note = fields.String(load_default="", validate=validate.Length(max=500))
    seen = fields.UUID(
        load_default=None,
        allow_none=True,
        metadata={"description": "Id of the newest decision you know of; 409 when there is a newer one of another"},
    )


class Slice(Schema):
    """One slice and its result."""

    id = fields.UUID(required=True)
    study_id = fields.UUID(required=True)
    study_instance_uid = fields.String(required=True)
    accession_number = fields.String(required=True)
    series_id = fields.UUID(required=True)
    series_number = fields.Integer(allow_none=True, required=True)
    series_description = fields.String(required=True)
    sop_instance_uid = fields.String(required=True)
    path = fields.String(required=True)
    frame = fields.Integer(required=True)
    instance_number = fields.Integer(allow_none=True, required=True)
    plane = fields.String(allow_none=True, required=True)
    position_mm = fields.Float(allow_none=True, required=True)
    rows = fields.Integer(required=True)
    columns = fields.Integer(required=True)
    text_risk = fields.String(
        required=True,
        metadata={
            "description": "Why a name may be written into the pixels: `declared`, `capture`, `seen`; empty: no sign"
        },
    )
    state = fields.String(required=True)
    failure = fields.Nested(Explained, allow_none=True, required=True)
    prediction = fields.Nested(Prediction, allow_none=True, required=True)
    untrained_plane = fields.String(
        required=True, metadata={"description": "The plane, when the model was not trained on it; else empty"}
    )
    decision = fields.Nested(Decision, allow_none=True, required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class StudyResults(Notice):
    """Every slice of a study in anatomical order, with its result."""

    study_id = fields.UUID(required=True)
    study_instance_uid = fields.String(required=True)
    accession_number = fields.String(required=True)
    summary = fields.Nested(Summary, required=True)
    model = fields.Nested(ModelRef, allow_none=True, required=True)
    slices = fields.List(fields.Nested(Slice), required=True)


class PredictionReceipt(Notice):
    """How a result came about, and all that is needed to repeat it."""

    prediction_id = fields.UUID(required=True)
    created_at = fields.AwareDateTime(required=True)
    class_name = fields.String(required=True)
    probability = fields.Float(required=True)
    probabilities = fields.Dict(keys=fields.String(), values=fields.Float(), required=True)
    scores = fields.List(fields.Float(), required=True)
    abstention = fields.String(required=True)
    guard = fields.Dict(keys=fields.String(), values=fields.Float(), required=True)
    input = fields.Dict(required=True)
    model = fields.Dict(required=True)
    preprocessing = fields.Dict(allow_none=True, required=True)
    heatmap = fields.Dict(allow_none=True, required=True)
    engine = fields.String(required=True)
    code_version = fields.String(required=True)
    study_id = fields.UUID(required=True)
    slice_id = fields.UUID(required=True)


class Reproduction(Notice):
    """A prediction computed again: `pending`, then `equal` (to the bit), `close`, `different` or `failed`."""

    id = fields.UUID(required=True)
    prediction_id = fields.UUID(required=True)
    state = fields.String(required=True)
    largest_difference = fields.Float(allow_none=True, required=True)
    detail = fields.Dict(required=True)
    created_at = fields.AwareDateTime(required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class HeatmapQuery(Schema):
    """In which colours a heatmap is drawn."""

    colour_map = fields.String(load_default=DEFAULT_COLOUR_MAP, validate=validate.OneOf(sorted(COLOUR_MAPS)))


class OverlayQuery(HeatmapQuery):
    """How a heatmap is drawn over its slice."""

    opacity = fields.Float(load_default=DEFAULT_OPACITY, validate=validate.Range(0, 1))
