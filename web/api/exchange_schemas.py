"""The shapes of the API's answers and requests about archives."""

from marshmallow import Schema, fields, validate

from db.exchange import Content, ObjectState, PeerKind
from db.states import Priority, RequestState


class Peer(Schema):
    """An archive; its secret is shown nowhere."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    kind = fields.Enum(PeerKind, by_value=True, required=True)
    address = fields.String(required=True)
    automatic = fields.Boolean(required=True, metadata={"description": "Whether results go there by themselves"})


class PeerList(Schema):
    """The archives an admin has entered."""

    peers = fields.List(fields.Nested(Peer), required=True)


class NewSending(Schema):
    """Where a study's results shall be sent, and which."""

    peer_id = fields.UUID(required=True)
    content = fields.Enum(Content, by_value=True, load_default=Content.BOTH)
    checkpoint = fields.String(
        load_default="",
        validate=validate.Regexp(r"^([0-9a-f]{64})?$"),
        metadata={"description": "SHA-256 of the model whose results are wanted; empty: those that are shown"},
    )


class SentObject(Schema):
    """One object and the archive's answer."""

    kind = fields.String(required=True, validate=validate.OneOf(["report", "capture"]))
    sop_class_uid = fields.String(required=True)
    sop_instance_uid = fields.String(required=True)
    state = fields.Enum(ObjectState, by_value=True, required=True)
    status = fields.String(required=True, metadata={"description": "`0x0000`, or `HTTP 415`; empty: no answer yet"})
    comment = fields.String(required=True)
    answered_at = fields.AwareDateTime(allow_none=True)


class Sending(Schema):
    """Results on their way to an archive."""

    id = fields.UUID(required=True)
    study_id = fields.UUID(required=True)
    peer_id = fields.UUID(allow_none=True)
    peer_name = fields.String(required=True)
    content = fields.Enum(Content, by_value=True, required=True)
    model_digest = fields.String(required=True)
    state = fields.Enum(RequestState, by_value=True, required=True)
    code = fields.String(required=True, metadata={"description": "Why it failed, or why it waits; may be empty"})
    reason = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)
    finished_at = fields.AwareDateTime(allow_none=True)
    objects = fields.List(fields.Nested(SentObject), required=True)


class SendingList(Schema):
    """The sendings of a study, the newest first."""

    sendings = fields.List(fields.Nested(Sending), required=True)


class NewRetrieval(Schema):
    """Which studies shall be fetched, and where from."""

    peer_id = fields.UUID(required=True)
    accession_numbers = fields.List(
        fields.String(validate=validate.Length(1, 64)), required=True, validate=validate.Length(1, 500)
    )
    title = fields.String(load_default="", validate=validate.Length(max=200))
    priority = fields.Enum(
        Priority,
        by_value=True,
        load_default=Priority.NORMAL,
        metadata={"description": "Of the jobs; `off_peak` also fetches at off-peak hours only"},
    )


class RetrievalLine(Schema):
    """One accession number and what became of it."""

    accession_number = fields.String(required=True, metadata={"description": "Empty when it was forgotten"})
    state = fields.Enum(RequestState, by_value=True, required=True)
    code = fields.String(required=True, metadata={"description": "Why it failed, or why it waits; may be empty"})
    reason = fields.String(required=True)
    studies = fields.Integer(required=True, metadata={"description": "Studies the archive knows under the number"})
    expected = fields.Integer(required=True, metadata={"description": "Instances that the archive lists"})
    fetched = fields.Integer(required=True)
    jobs = fields.List(fields.UUID(), required=True)


class Retrieval(Schema):
    """A list of accession numbers."""

    id = fields.UUID(required=True)
    peer_name = fields.String(required=True)
    title = fields.String(required=True)
    priority = fields.Enum(Priority, by_value=True, required=True)
    created_at = fields.AwareDateTime(required=True)
    waiting = fields.Boolean(required=True)
    lines = fields.List(fields.Nested(RetrievalLine), required=True)
