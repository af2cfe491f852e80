"""The model card.

Owns: the Markdown that tells people what a model is, what it was trained on, how good it is on whom, and what it must
not be used for. Refuses: numbers of its own: everything comes from the facts of the run.

Form: Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

# ruff: noqa: E501  (the lines of a Markdown template are as long as their values make them)

from collections.abc import Mapping, Sequence
from typing import Any

from training.calibration import BINS
from training.scenario import Scenario

SOURCES: Mapping[str, str] = {
    "cheng2017": (
        "Jun Cheng, *brain tumor dataset*, figshare, 2017, doi:10.6084/m9.figshare.1512427, licensed under "
        "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/). T1-weighted, contrast-enhanced slices in three planes; "
        "converted to 8-bit JPEG at 512 x 512. The model and this card build on it; the slices in `examples/` are taken from it."
    ),
    "br35h": (
        "*Br35H :: Brain Tumor Detection 2020*: slices without tumour of various origins, sequences and sizes. Its licence "
        "is not clear: it was trained on and tested on, none of its images is shipped."
    ),
}


def write_card(scenario: Scenario, facts: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        scenario: The configuration that was trained.
        facts: `split`, `leaks`, `test`, `validation`, `calibration`, `shortcuts`, `localisation`, `run`,
            `fingerprint`, `sources`, `created_at`, `code_version`, `command` as `training.shipping` gathers them.
    """
    sections = (
        _head(scenario, facts),
        _use(),
        _data(facts),
        _training(scenario, facts),
        _results(scenario, facts["test"]),
        _calibration(facts["calibration"]),
        _shortcuts(facts["shortcuts"]),
        _localisation(facts["localisation"]),
        _limits(),
        _again(facts),
    )
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _head(scenario: Scenario, facts: Mapping[str, Any]) -> str:
    return f"""# Model card: {scenario.name}

**Research use only. Not a medical device; not for diagnosis.**

{scenario.network} from {"ImageNet" if scenario.weights == "imagenet" else "random"} weights, trained as a whole; input
{scenario.preprocessing.size} x {scenario.preprocessing.size}, one grey slice; classes {", ".join(scenario.class_names)}; head: global
average pooling, batch normalisation, {scenario.head.units} units, dropout {scenario.head.dropout}, {scenario.head.activation}.
Made {facts["created_at"]} by code version {facts["code_version"]}; data and split have the fingerprint
`{facts["fingerprint"][:16]}`."""


def _use() -> str:
    return """## Intended use

To sort single slices of brain MRI (T1-weighted with contrast agent, axial, coronal or sagittal) into the four classes,
with a heatmap of where the network looked, for research and teaching and as a second look under the eyes of a
specialist, who sees every slice. Not for deciding on treatment, not for triage without review, not for other organs, sequences,
children, images after surgery, or tumours of other kinds: the network always answers with one of its four classes."""


def _data(facts: Mapping[str, Any]) -> str:
    counts = facts["split"]
    rows = [
        (label, *(f"{counts[part][label]['slices']} ({counts[part][label]['patients']})" for part in counts))
        for label in next(iter(counts.values()))
    ]
    sources = "\n".join(f"- `{name}`: {SOURCES.get(name, 'as supplied by the operator')}" for name in facts["sources"])
    leaks = facts["leaks"]
    return f"""## Data

{sources}

Split 80:10:10 by patient, stratified by class and plane (slices, in brackets patients or, for pictures without patient
number, groups of near-duplicates):

{_table(("class", *counts), rows)}

Before the split, samples were joined that must not be parted: all slices of a patient, identical files (pairs: {leaks["identical_pairs"]}) and
near-duplicates (pairs: {leaks["near_pairs"]}). Of these pairs {leaks["cross_patient_pairs"]} joined two patient numbers or groups and
{leaks["cross_label_pairs"]} had two labels. {leaks["groups"]} groups came of it. The split is proved clean at every run, and stands beside
the model as CSV. The tumour boxes that come with the data were not used in training."""


def _training(scenario: Scenario, facts: Mapping[str, Any]) -> str:
    phases = ", then ".join(f"{phase.epochs} epochs at {phase.size} pixels" for phase in scenario.phases)
    run = facts["run"]
    return f"""## Training

{phases}; {sum(scenario.samples_per_epoch.values())} slices an epoch, drawn by quota ({", ".join(f"{name} {count}" for name, count in scenario.samples_per_epoch.items())}) so that classes balance (training part
only) and long series do not outweigh short ones; {scenario.optimizer}, peak learning rate {scenario.learning_rate}, warm-up
and cosine; batch {scenario.batch}; label smoothing {scenario.label_smoothing}; mixup in {_percent(scenario.mixup_rate)} of the batches; average of weights
(decay {scenario.ema_decay}). Augmentation: rotation, zoom, aspect, shear, shift, mirroring, exponent, contrast,
brightness, coil field, noise, blur, sharpening, lower resolution, JPEG, erasing, cut strips and drawn marks.
The checkpoint of epoch {run["best_epoch"] + 1} of {len(run["history"])} was chosen by its loss on the validation part
({run["best_loss"]:.4f}; accuracy there {_percent(facts["validation"]["metrics"]["accuracy"]["value"])}). The test part was scored after that choice."""


def _results(scenario: Scenario, test: Mapping[str, Any]) -> str:
    metrics = [
        (name.replace("_", " "), f"{m['value']:.4f}", f"{m['low']:.4f} – {m['high']:.4f}")
        for name, m in test["metrics"].items()
    ]
    classes = [
        (name, c["slices"], c["patients"], _percent(c["precision"]), _percent(c["recall"]), _percent(c["f1"]))
        for name, c in test["classes"].items()
    ]
    confusion = [(f"**{n}**", *row) for n, row in zip(scenario.class_names, test["confusion"], strict=True)]
    planes = [(p, f["slices"], _percent(f["accuracy"])) for p, f in test["planes"].items()]
    patients = [
        (name, f["patients"], f["right"], _percent(f["worst_slice_accuracy"]))
        for name, f in test["by_patient"]["classes"].items()
    ]
    return f"""## Results on held-back patients

{test["slices"]} slices of {test["patients"]} patients or groups that the network never saw. Intervals: 95 %, by resampling whole patients
within each class (2,000 times). With so few patients they say more than the point values do.

{_table(("measure", "value", "95 % interval"), metrics)}

{_table(("class", "slices", "patients", "precision", "recall", "F1"), classes)}

Confusion (rows: truth, columns: prediction):

{_table(("", *scenario.class_names), confusion)}

By plane (`unknown`: the pictures without tumour, whose source names no plane; they are mostly axial):

{_table(("plane", "slices", "accuracy"), planes)}

By patient (class with the highest mean probability over the patient's slices): {_percent(test["by_patient"]["accuracy"])} right.

{_table(("class", "patients", "right", "least share of right slices of any patient"), patients)}"""


def _calibration(found: Mapping[str, Any]) -> str:
    rows = [
        (part, _percent(found[part]["ece_before"]), _percent(found[part]["ece_after"]))
        for part in ("validation", "test")
    ]
    bins = [(b["count"], _percent(b["probability"]), _percent(b["accuracy"])) for b in found["test"]["reliability"]]
    return f"""## Calibration

Scores are divided by the temperature {found["temperature"]:.3f}, fitted on the validation part. Expected calibration error
({BINS} bins):

{_table(("part", "before", "after"), rows)}

Test part after calibration, slices by the probability of their prediction:

{_table(("slices", "mean probability", "share right"), bins)}"""


def _shortcuts(found: Mapping[str, Any]) -> str:
    stages = {"before": "original picture", "after": "after our preprocessing", "after_axial": "the same, axial only"}
    shown = {stage: words for stage, words in stages.items() if stage in found}
    rows = [
        (kind, *(f"{found[stage][kind]:.3f}" if kind in found[stage] else "–" for stage in shown))
        for kind in ("file", "border", "histogram", "sharpness")
    ]
    verdict = (
        "The preprocessing hides the file's size and shape and blanks what lies around the head, but **the shortcut is not closed**: even "
        "so, the collections can be told apart without looking at any lesion. They differ in the sequence itself "
        "(contrast-enhanced T1 on one side; T2, FLAIR, plain T1, even CT on the other), which shows in any histogram and "
        "which no normalisation of single pictures undoes."
        if max(found["after"].values()) > 0.8
        else "Little is left after the preprocessing by which the collections can be told apart without the brain."
    )
    return f"""## The shortcut, and how much of it is left

All slices without tumour come from another collection than all slices with one. Small classifiers (extremely randomised trees)
that see only the file's properties, the border (frame of 4 of 64 pixels; after preprocessing that is the edge of the head's
crop), the histogram or the amount of detail were asked to tell `no_tumor` from the rest, five-fold cross-validation over
groups on the training and validation parts; area under the ROC curve, 0.5 is chance:

{_table(("what the probe sees", *shown.values()), rows)}

{verdict} **The high recall of `no_tumor` is therefore no evidence that the
network can rule out a tumour in a contrast-enhanced T1 slice.** The three tumour classes come from one collection, and
the distinction between them is not touched by this."""


def _localisation(found: Mapping[str, Any]) -> str:
    if not any(part.get("slices") for part in found.values()):
        return "## Where the heatmaps point\n\nNot measured: the data set names no tumour boxes."
    keys = ("peak_in_box", "peak_by_chance", "energy_in_box", "box_share_of_crop")
    rows = [(name, part["slices"], *(_percent(part.get(key)) for key in keys)) for name, part in found.items()]
    head = ("class", "slices", "peak in box", "by chance", "heatmap in box", "by chance")
    return f"""## Where the heatmaps point

Correctly classified test slices with a known tumour box: does the heatmap's peak lie in the box (half a grid cell of slack), how much
of the heatmap does, and what chance would give (share of grid cells that would hit; share of the picture in the box):

{_table(head, rows)}

**A heatmap shows where the network looked, not where the tumour is or ends; do not use it to find one.** Where the two columns are close, the
network decides by something other than the tumour itself."""


def _limits() -> str:
    return """## Limits

- Two collections from few hospitals; one scanner or another population may do worse. Measure on your own patients first.
- Slices were chosen by hand to show a tumour; whole series hold many slices near a tumour's edge that it was not trained on.
- `no_tumor` comes from another source than the tumours (above): a healthy slice of a contrast-enhanced series may be
  given a tumour class.
- It knows no other lesion (metastasis, lymphoma, abscess, stroke) and cannot say "something else".
- Patients behind the numbers are few; the intervals do not cover a change of hospital.
- Letter variants of one patient number were taken as one patient; planes were told by eye by the data's curators."""


def _again(facts: Mapping[str, Any]) -> str:
    return f"""## To make it again

```
{facts["command"]}
```

Seeds are fixed, so data, split, order and augmentation repeat; sums on several threads are rounded in varying order, so that
weights differ in the last digits and scores a little."""
