"""Imports every model, so that the metadata is whole: for migrations and for mapping."""

from db import (
    checkpoints,
    datasets,
    exchange,
    jobs,
    predictions,
    receptions,
    registry,
    reviews,
    standings,
    studies,
    sweeps,
    uploads,
    users,
    workers,
)
from db.base import Base

METADATA = Base.metadata
MODULES = (
    checkpoints,
    datasets,
    exchange,
    jobs,
    predictions,
    receptions,
    registry,
    reviews,
    standings,
    studies,
    sweeps,
    uploads,
    users,
    workers,
)
