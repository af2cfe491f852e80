"""Imports every model, so that the metadata is whole: for migrations and for mapping."""

from db import checkpoints, jobs, predictions, studies, uploads, users, workers
from db.base import Base

METADATA = Base.metadata
MODULES = (checkpoints, jobs, predictions, studies, uploads, users, workers)
