"""The shapes of the API's answers and requests about data sets."""

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from db.states import DatasetState


class DatasetProblem(Schema):
    """Why a data set was refused; of a ready one, what to keep in mind."""

    code = fields.String(required=True)
    sentence = fields.String(required=True)


class DatasetDocument(Schema):
    """A data set: labelled slices as they were on the day it was registered."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(["folder", "manifest", "studies"]))
    state = fields.Enum(DatasetState, by_value=True, required=True)
    fingerprint = fields.String(
        required=True, metadata={"description": "SHA-256 over file, bytes, label, patient and plane of every sample"}
    )
    counts = fields.Dict(required=True, metadata={"description": "Slices and patients, by class, plane and source"})
    leaks = fields.Dict(required=True, metadata={"description": "Copies that were found, with examples"})
    problems = fields.List(fields.Nested(DatasetProblem), required=True)
    waiting_for = fields.String(
        required=True, metadata={"description": "Why it is not read yet, as a code; empty when nothing hinders"}
    )
    progress = fields.Float(allow_none=True, required=True, metadata={"description": "While it is read, in [0, 1]"})
    created_at = fields.AwareDateTime(required=True)
    created_by = fields.String(required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class DatasetList(Schema):
    """All data sets, the newest first."""

    datasets = fields.List(fields.Nested(DatasetDocument), required=True)


class Reviewed(Schema):
    """Which reviewed slices count; without a member all do."""

    since = fields.AwareDateTime(load_default=None, allow_none=True)
    until = fields.AwareDateTime(load_default=None, allow_none=True)
    classes = fields.List(fields.String(validate=validate.Length(1, 64)), load_default=list)


class NewDataset(Schema):
    """What is to be registered: exactly one of `folder`, `upload_id` and `reviewed`."""

    name = fields.String(required=True, validate=validate.Length(1, 128))
    folder = fields.String(
        load_default="", metadata={"description": "Name of a folder below the server's data sets' folder"}
    )
    upload_id = fields.UUID(
        load_default=None,
        allow_none=True,
        metadata={"description": "An upload (see /uploads) with a zip archive or pictures; it ends with this"},
    )
    reviewed = fields.Nested(Reviewed, load_default=None, allow_none=True)
    labels_as_they_are = fields.Boolean(
        load_default=False, metadata={"description": "Labels that look misspelt are meant so"}
    )

    @validates_schema
    def _one_origin(self, data: dict[str, object], **_: object) -> None:
        if sum(bool(data.get(name)) or data.get(name) == {} for name in ("folder", "upload_id", "reviewed")) != 1:
            raise ValidationError("Name exactly one of folder, upload_id and reviewed.")


class Again(Schema):
    """How to read a refused data set again."""

    labels_as_they_are = fields.Boolean(
        load_default=False, metadata={"description": "Labels that look misspelt are meant so"}
    )
