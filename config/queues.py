"""Every queue and task name of the system, in one place.

Owns: the names by which web and worker speak of the same thing without importing each other.
Refuses: to hold logic. A message carries ids only; the database row says what is to be done.
"""

from typing import Final

QUEUE_INTERACTIVE: Final = "interactive"
QUEUE_BATCH: Final = "batch"
QUEUE_INTAKE: Final = "intake"
QUEUE_TRANSFER: Final = "transfer"
QUEUE_REGISTRY: Final = "registry"
QUEUE_TRAINING: Final = "training"
QUEUE_HOUSEKEEPING: Final = "housekeeping"

QUEUES: Final = (
    QUEUE_INTERACTIVE,
    QUEUE_BATCH,
    QUEUE_INTAKE,
    QUEUE_TRANSFER,
    QUEUE_REGISTRY,
    QUEUE_TRAINING,
    QUEUE_HOUSEKEEPING,
)
"""In the order in which a worker that listens to several of them serves them."""

TASK_INTAKE: Final = "neurosight.intake"
TASK_CLASSIFY: Final = "neurosight.classify"
TASK_REPRODUCE: Final = "neurosight.reproduce"
TASK_PLAN_SWEEP: Final = "neurosight.plansweep"
TASK_TRAIN: Final = "neurosight.train"
TASK_REGISTER_DATASET: Final = "neurosight.registerdataset"
TASK_EXPORT_RUN: Final = "neurosight.exportrun"
TASK_COMPARE: Final = "neurosight.compare"
TASK_IMPORT: Final = "neurosight.importcheckpoint"
TASK_SEND: Final = "neurosight.sendresults"
TASK_RETRIEVE: Final = "neurosight.retrieve"
TASK_HOUSEKEEPING: Final = "neurosight.housekeeping"

TASKS: Final = (
    TASK_INTAKE,
    TASK_CLASSIFY,
    TASK_REPRODUCE,
    TASK_PLAN_SWEEP,
    TASK_TRAIN,
    TASK_REGISTER_DATASET,
    TASK_EXPORT_RUN,
    TASK_COMPARE,
    TASK_IMPORT,
    TASK_SEND,
    TASK_RETRIEVE,
    TASK_HOUSEKEEPING,
)
