"""The words for sweeps, runs and their metrics, in the reader's language, and how their numbers look.

Owns one table a vocabulary; a metric without an entry is shown by its own name. Shares are percentages, areas and
calibration errors are decimals, as papers print them.
"""

from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask_babel import format_decimal, format_percent, lazy_gettext

from db.queries.leaderboard import Interval
from db.states import RunState, SweepState
from web.pages.languages import add_filters, class_label

SWEEP_STATES = {
    SweepState.PLANNING: lazy_gettext("being planned"),
    SweepState.REFUSED: lazy_gettext("refused"),
    SweepState.RUNNING: lazy_gettext("running"),
    SweepState.PAUSED: lazy_gettext("paused"),
    SweepState.FINISHED: lazy_gettext("finished"),
    SweepState.CANCELLED: lazy_gettext("cancelled"),
}
RUN_STATES = {
    RunState.PENDING: lazy_gettext("waiting"),
    RunState.RUNNING: lazy_gettext("training"),
    RunState.PAUSED: lazy_gettext("paused"),
    RunState.FINISHED: lazy_gettext("finished"),
    RunState.FAILED: lazy_gettext("failed"),
    RunState.CANCELLED: lazy_gettext("cancelled"),
}
PARTS = {"validation": lazy_gettext("validation"), "test": lazy_gettext("test"), "train": lazy_gettext("training")}
MEASURES = {
    "accuracy": lazy_gettext("accuracy"),
    "balanced_accuracy": lazy_gettext("balanced accuracy"),
    "macro_precision": lazy_gettext("mean precision"),
    "macro_recall": lazy_gettext("mean recall"),
    "macro_f1": lazy_gettext("mean F1"),
    "macro_roc_auc": lazy_gettext("mean ROC AUC"),
    "macro_pr_auc": lazy_gettext("mean PR AUC"),
    "precision": lazy_gettext("precision"),
    "recall": lazy_gettext("recall"),
    "f1": lazy_gettext("F1"),
    "roc_auc": lazy_gettext("ROC AUC"),
    "pr_auc": lazy_gettext("PR AUC"),
    "patient_accuracy": lazy_gettext("accuracy by patient"),
    "accuracy_by_counts": lazy_gettext("accuracy by counting slices"),
    "patient_roc_auc": lazy_gettext("mean ROC AUC by patient"),
    "ece_before": lazy_gettext("calibration error before"),
    "ece_after": lazy_gettext("calibration error after"),
}
LEAKS = {
    "identical": lazy_gettext("Identical pictures"),
    "near": lazy_gettext("Near-identical pictures"),
    "cross_patient": lazy_gettext("Copies under different patients"),
    "cross_label": lazy_gettext("Copies under different labels"),
}


def init_app(app: Flask) -> None:
    """Adds the filters."""
    add_filters(
        app,
        sweep_state_label=lambda state: str(SWEEP_STATES.get(state, state)),
        run_state_label=lambda state: str(RUN_STATES.get(state, state)),
        part_label=lambda part: str(PARTS.get(part, part)),
        metric_label=metric_label,
        measure=measure,
        interval=spread,
        learning_rate=learning_rate,
        field_value=field_value,
        span_of_time=span_of_time,
        decimal=decimal,
        leak_label=lambda kind: str(LEAKS.get(kind, kind)),
    )


def metric_label(metric: str) -> str:
    """A metric for people: `test.recall_glioma` is "test: recall, glioma"."""
    part, _, name = metric.rpartition(".")
    words = measure_label(name)
    return f"{PARTS.get(part, part)}: {words}" if part else words


def measure_label(name: str) -> str:
    """A metric without its part."""
    if name in MEASURES:
        return str(MEASURES[name])
    for known in ("precision", "recall", "f1", "roc_auc", "pr_auc"):
        if name.startswith(f"{known}_"):
            return f"{MEASURES[known]}, {class_label(name[len(known) + 1 :])}"
    return name.replace("_", " ")


def measure(value: float | None, metric: str = "") -> str:
    """A metric's value; never rounded up to perfection."""
    if value is None:
        return "–"
    if "auc" in metric or "ece" in metric:
        return str(format_decimal(min(value, 0.9999) if value < 1 else value, "0.0000"))
    return str(format_percent(min(value, 0.999) if value < 1 else value, "#,##0.0 %"))


def spread(found: Interval | Mapping[str, Any] | None, metric: str = "") -> str:
    """The 95 % interval behind a value, "90.2-95.4"; empty when it is not known."""
    low, high = bounds(found)
    if low is None or high is None:
        return ""
    if "auc" in metric or "ece" in metric:
        ends = [str(format_decimal(value, "0.000")) for value in (low, high)]
    else:
        ends = [str(format_decimal(round(100 * value, 1), "0.0")) for value in (low, high)]
    return f"{ends[0]}\N{EN DASH}{ends[1]}"


def bounds(found: Interval | Mapping[str, Any] | None) -> tuple[float | None, float | None]:
    """Ends of an interval, as a row or a report holds it."""
    if found is None:
        return None, None
    if isinstance(found, Interval):
        return found.low, found.high
    return found.get("low"), found.get("high")


def decimal(value: float | None, digits: int = 4) -> str:
    """A number with at most so many decimals; a dash when it is not known."""
    return "\N{EN DASH}" if value is None else str(format_decimal(round(value, digits), f"#,##0.{'#' * digits}"))


def learning_rate(value: object) -> str:
    """A learning rate, without zeros that say nothing."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def field_value(value: object) -> str:
    """A field of a scenario, nearly as its file would say it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(field_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {field_value(inner)}" for key, inner in value.items() if inner is not None)
    return "–" if value in (None, "") else str(value)


def span_of_time(seconds: float | None) -> str:
    """A time that was taken, as hours, minutes and seconds with colons; a dash when nothing was measured."""
    if not seconds:
        return "\N{EN DASH}"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
