"""Runs two checkpoints over the same held-back slices and keeps what each said of every one.

Owns the comparison that precedes a promotion: both artefacts through the engine that serves them, one after the other
(so that one model more is in memory at a time), accuracy with intervals by patient, McNemar's exact test, and what is
known of whether either was trained on these slices. Refuses to say which one is better.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import structlog

from db.artefacts import ArtefactAltered, ArtefactMissing, local_artefact
from db.checkpoints import Checkpoint
from db.queries import claims
from db.queries import comparisons as rows
from db.queries.claims import Claim
from db.queries.comparisons import ComparisonToDo
from db.queries.imports import named
from inference.errors import InferenceError
from inference.predictor import Slice, open_predictor
from training.comparison import mcnemar
from training.datasets import Dataset, Sample, read_dataset, read_grey
from training.resampling import draw, interval
from worker import datasets
from worker.context import Context
from worker.faults import Fatal
from worker.lease import Lease

RESAMPLES: Final = 2000
SEED: Final = 2026

log = structlog.get_logger(__name__)


def run(context: Context, claim: Claim, lease: Lease) -> None:
    """Does a claimed comparison from beginning to end.

    Raises:
        LeaseLost: Somebody else has it; nothing was written.
        Fatal: A model or a picture is missing or unusable.
        Exception: Whatever `worker.work` is to judge.
    """
    comparison_id = named(claim, "comparison_id")
    with context.database.read() as session:
        wanted = rows.to_do(session, comparison_id)
    if wanted is None:
        context.write(lease, lambda session: claims.finish(session, claim, note="gone"))
        return
    data = read_dataset(
        datasets.materialise(context, wanted.slices.dataset_id, context.settings.training_dir / "datasets")
    )
    wanted_files = set(wanted.slices.files) if wanted.slices.files is not None else None
    samples = [sample for sample in data.samples if wanted_files is None or sample.file in wanted_files]
    if not samples:
        raise Fatal("comparison_empty", "none of the slices to compare on is in the data set")
    said = {}
    for name, checkpoint in (("candidate", wanted.candidate), ("reference", wanted.reference)):
        said[name] = _predict(context, lease, checkpoint, data, samples)
    result = judge(wanted, samples, said["candidate"], said["reference"])
    context.write(lease, lambda session: rows.done(session, claim, comparison_id, result))
    log.info("compared", comparison_id=str(comparison_id), slices=len(samples), p_value=result["mcnemar"]["p_value"])


class Said:
    """What one checkpoint said of every slice, in order, and how long a slice took."""

    def __init__(self) -> None:
        self.classes: list[str] = []
        self.probabilities: list[float] = []
        self.ms_per_slice = 0.0


def _predict(context: Context, lease: Lease, checkpoint: Checkpoint, data: Dataset, samples: Sequence[Sample]) -> Said:
    settings, said = context.settings, Said()

    def read(some: Sequence[Sample]) -> list[Slice | Exception]:
        return [read_grey(data.root / sample.file).astype(np.float32) / 255 for sample in some]

    try:
        with (
            local_artefact(checkpoint.location, settings.models_dir, context.blobs) as path,
            open_predictor(path, checkpoint.digest, settings.engine, settings.inference_threads) as predictor,
        ):
            began = time.monotonic()
            for _, outcome in predictor.predict_each(samples, read):
                lease.check()
                if isinstance(outcome, Exception):
                    said.classes.append("")
                    said.probabilities.append(0.0)
                else:
                    said.classes.append(outcome.class_name)
                    said.probabilities.append(outcome.probability)
                lease.progress += 1
            said.ms_per_slice = 1000 * (time.monotonic() - began) / len(samples)
    except ArtefactMissing:
        raise Fatal("model_missing", f"the artefact of checkpoint {checkpoint.id} is missing") from None
    except ArtefactAltered:
        raise Fatal("model_altered", f"the artefact of checkpoint {checkpoint.id} was altered") from None
    except InferenceError as error:
        raise Fatal("model_unusable", f"checkpoint {checkpoint.id}: {error}") from None
    return said


def judge(wanted: ComparisonToDo, samples: Sequence[Sample], candidate: Said, reference: Said) -> dict[str, Any]:
    """The result as JSON values.

    Args:
        wanted: Both checkpoints and which slices these are.
        samples: The slices.
        candidate: What it said of each.
        reference: The same.

    Returns:
        `slices`, `patients`, `labels`, one entry a checkpoint (`accuracy` interval, `confusion` as label -> prediction
        -> slices, `ms_per_slice`), `mcnemar` (A is the candidate), `training` (what is known of the slices), and
        `outcomes`: [file, label, candidate's class, its probability, reference's class, its probability] a slice.
    """
    labels = sorted({sample.label for sample in samples})
    index = np.array([labels.index(sample.label) for sample in samples], np.int64)
    weights = draw(index, [sample.patient or sample.file for sample in samples], RESAMPLES, SEED)

    def side(said: Said) -> tuple[dict[str, Any], list[bool]]:
        right = [name == sample.label for name, sample in zip(said.classes, samples, strict=True)]
        confusion: dict[str, dict[str, int]] = {label: {} for label in labels}
        for name, sample in zip(said.classes, samples, strict=True):
            confusion[sample.label][name] = confusion[sample.label].get(name, 0) + 1
        shares = weights @ np.array(right, np.float64) / weights.sum(axis=1)
        return {
            "accuracy": interval(shares),
            "confusion": confusion,
            "ms_per_slice": round(said.ms_per_slice, 2),
        }, right

    ours, right_ours = side(candidate)
    theirs, right_theirs = side(reference)
    return {
        "run": wanted.slices.run_name,
        "dataset": wanted.slices.dataset_name,
        "slices": len(samples),
        "patients": len({sample.patient or sample.file for sample in samples}),
        "labels": labels,
        "candidate": ours,
        "reference": theirs,
        "mcnemar": mcnemar(right_ours, right_theirs).to_json(),
        "training": training_facts(wanted),
        "outcomes": [
            [sample.file, sample.label, a, round(pa, 6), b, round(pb, 6)]
            for sample, a, pa, b, pb in zip(
                samples,
                candidate.classes,
                candidate.probabilities,
                reference.classes,
                reference.probabilities,
                strict=True,
            )
        ],
    }


def training_facts(wanted: ComparisonToDo) -> Mapping[str, str]:
    """What is known of whether each checkpoint was trained on these slices.

    `held_back`: they are the test part of the run that made it, or of a run on the same data and split; `unknown`: it
    was trained on other data or another split, some of which may be these slices; `whole_set`: no part was held back.
    """
    prints = {
        "candidate": wanted.candidate.manifest.get("dataset_fingerprint", ""),
        "reference": wanted.reference.manifest.get("dataset_fingerprint", ""),
    }
    if wanted.slices.files is None:
        return dict.fromkeys(prints, "whole_set")
    same = prints["candidate"] == prints["reference"] != ""
    return {name: "held_back" if same or name == wanted.slices.owner else "unknown" for name in prints}
