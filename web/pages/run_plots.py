"""The plots of a run: curves by epoch, ROC and precision-recall, reliability; and those of several runs overlaid.

Owns what of a report is drawn and how it is named. Refuses to compute: points come from the report and the epochs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flask_babel import gettext
from markupsafe import Markup

from web.pages.languages import class_label
from web.pages.training_words import measure
from web.plots.curves import Curve, curves

MOST_DOTS = 60
UNIT = (0.0, 1.0)


def losses(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> Markup:
    """Training and validation loss by epoch."""
    lines = [
        _by_epoch(history, "loss", gettext("training"), 0),
        _by_epoch(history, "validation_loss", gettext("validation"), 1),
    ]
    return curves(
        "losses",
        gettext("Loss by epoch"),
        _last_words(history, "validation_loss", gettext("Validation loss")),
        [one for one in lines if one.points],
        x_label=gettext("epoch"),
        y_label=gettext("loss"),
        mark_x=best_epoch,
        mark_label=gettext("best epoch: %(epoch)s", epoch=best_epoch),
    )


def accuracies(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> Markup:
    """Accuracy and balanced accuracy of the validation part by epoch."""
    lines = [
        _by_epoch(history, "validation_accuracy", gettext("accuracy"), 0),
        _by_epoch(history, "validation_balanced_accuracy", gettext("balanced accuracy"), 1),
    ]
    return curves(
        "accuracies",
        gettext("Validation accuracy by epoch"),
        _last_words(history, "validation_accuracy", gettext("Validation accuracy")),
        [one for one in lines if one.points],
        x_label=gettext("epoch"),
        y_label=gettext("accuracy"),
        mark_x=best_epoch,
        mark_label=gettext("best epoch: %(epoch)s", epoch=best_epoch),
    )


def roc(name: str, part: Mapping[str, Any]) -> Markup:
    """ROC curves, each class against the rest."""
    return curves(
        f"roc-{name}",
        gettext("ROC curves"),
        gettext("True positive rate over false positive rate, each class against the rest; the diagonal is chance."),
        _of_classes(part, "roc", "roc_auc"),
        x_label=gettext("false positive rate"),
        y_label=gettext("true positive rate"),
        x_range=UNIT,
        y_range=UNIT,
        diagonal=True,
    )


def precision_recall(name: str, part: Mapping[str, Any]) -> Markup:
    """Precision-recall curves, each class against the rest."""
    return curves(
        f"pr-{name}",
        gettext("Precision-recall curves"),
        gettext("Precision over recall, each class against the rest."),
        _of_classes(part, "pr", "pr_auc"),
        x_label=gettext("recall"),
        y_label=gettext("precision"),
        x_range=UNIT,
        y_range=UNIT,
    )


def reliability(name: str, found: Mapping[str, Any]) -> Markup:
    """How often predictions of a probability are right, before and after calibration."""
    lines = [
        Curve(label, [(bin_["probability"], bin_["accuracy"]) for bin_ in found.get(key) or []], style, dots=True)
        for key, label, style in (
            ("reliability_before", gettext("before"), 1),
            ("reliability", gettext("after calibration"), 0),
        )
    ]
    return curves(
        f"reliability-{name}",
        gettext("Reliability"),
        gettext("Share of right predictions over their probability; on the diagonal probabilities say what they mean."),
        lines,
        x_label=gettext("probability"),
        y_label=gettext("share right"),
        x_range=UNIT,
        y_range=UNIT,
        diagonal=True,
    )


def overlaid(name: str, title: str, key: str, histories: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> Markup:
    """One number by epoch of several runs.

    Args:
        name: Of the plot on its page.
        title: What it is.
        key: Of the epochs' facts.
        histories: (name of the run, its epochs).
    """
    lines = [_by_epoch(history, key, run, number, dots=False) for number, (run, history) in enumerate(histories)]
    return curves(
        name,
        title,
        gettext("One line a run. The tables on this page hold the final numbers."),
        [one for one in lines if one.points],
        x_label=gettext("epoch"),
        y_label=title,
    )


def _by_epoch(history: Sequence[Mapping[str, Any]], key: str, label: str, style: int, *, dots: bool = True) -> Curve:
    points = [(float(number), float(facts[key])) for number, facts in enumerate(history) if facts.get(key) is not None]
    return Curve(label, points, style, dots=dots and len(points) <= MOST_DOTS)


def _of_classes(part: Mapping[str, Any], kind: str, area: str) -> list[Curve]:
    lines = []
    for number, (name, found) in enumerate(part["curves"].items()):
        size = (part["classes"].get(name, {}).get(area) or {}).get("value")
        label = f"{class_label(name)} ({measure(size, area)})"
        lines.append(Curve(label, [(point[0], point[1]) for point in found.get(kind) or []], number))
    return lines


def _last_words(history: Sequence[Mapping[str, Any]], key: str, what: str) -> str:
    values = [facts[key] for facts in history if facts.get(key) is not None]
    if not values:
        return str(gettext("No epoch has ended yet."))
    words = gettext(
        "%(what)s went from %(first)s to %(last)s in %(count)s epochs.",
        what=what,
        first=f"{values[0]:.4g}",
        last=f"{values[-1]:.4g}",
        count=len(values),
    )
    return str(words)
