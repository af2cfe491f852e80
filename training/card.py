"""The model card.

Owns: the Markdown that tells people what a model is, what it was trained on, how good it is on whom, and what it must
not be used for. Refuses: numbers of its own: everything comes from the facts of the run.

Form: Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

# ruff: noqa: E501  (the lines of a Markdown template are as long as their values make them)

from collections.abc import Mapping
from typing import Any

from training.calibration import BINS
from training.markdown import percent, table
from training.scenario import Scenario

CALIBRATION = "Calibration"

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


def write_card(scenario: Scenario, record: Mapping[str, Any], extras: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        scenario: The configuration that was trained.
        record: Its report (docs/run-report.md).
        extras: `shortcuts` and `localisation` as `training.shipping` measures them; either may be missing.
    """
    test = record["test"]
    sections = (
        _head(scenario, record),
        _use(scenario),
        _data(scenario, record),
        _training(scenario, record),
        _results(scenario, test) if test else "## Results on held-back patients\n\nThe test part was not scored.",
        f"## {CALIBRATION}\n\n{calibration_section(record['calibration'])}",
        _shortcuts(extras["shortcuts"]) if extras.get("shortcuts") else "",
        _localisation(extras["localisation"]) if "localisation" in extras else "",
        _limits(scenario, record),
        _again(record),
    )
    return "\n\n".join(section.strip() for section in sections if section) + "\n"


def _head(scenario: Scenario, record: Mapping[str, Any]) -> str:
    start = {"imagenet": "ImageNet weights", "none": "random weights"}.get(
        scenario.weights, f"the weights of the artefact `{scenario.weights}`"
    )
    learns = {"all": "trained as a whole", "head": "with a frozen backbone: only the head was trained"}.get(
        scenario.learns, f"trained from the layer `{scenario.learns}` on, what comes before it being frozen"
    )
    torn = record["data"]["torn"]
    warning = (
        ""
        if scenario.split_rule == "patient"
        else f"""

**The numbers below flatter.** Images were split one by one, as in the thesis, not by patient: {torn["patients"]} patients
and {torn["identical_pairs"] + torn["near_pairs"]} pairs of copies stand on two sides of the split, so the network was tested on patients it had seen."""
    )
    return f"""# Model card: {scenario.name}

**Research use only. Not a medical device; not for diagnosis.**{warning}

{scenario.network} from {start}, {learns}; input
{scenario.preprocessing.size} x {scenario.preprocessing.size}, one grey slice; classes {", ".join(scenario.class_names)}; head: global
average pooling, batch normalisation, {scenario.head.units} units, dropout {scenario.head.dropout}, {scenario.head.activation}.
Made {record["created_at"]} by code version {record["code_version"]}; data and split have the fingerprint
`{record["data"]["fingerprint"][:16]}`."""


def _use(scenario: Scenario) -> str:
    planes = ", ".join(scenario.planes) if scenario.planes else "axial, coronal or sagittal"
    return f"""## Intended use

To sort single slices of brain MRI (T1-weighted with contrast agent, {planes}) into {len(scenario.class_names)} classes
({", ".join(scenario.class_names)}), with a heatmap of where the network looked, for research and teaching and as a second look under the eyes of a
specialist, who sees every slice. Not for deciding on treatment, not for triage without review, not for other organs, sequences,
children, images after surgery, or tumours of other kinds: the network always answers with one of its classes."""


def _data(scenario: Scenario, record: Mapping[str, Any]) -> str:
    data, leaks = record["data"], record["leaks"]
    counts = data["split"]
    rows = [
        (label, *(f"{counts[part][label]['slices']} ({counts[part][label]['patients']})" for part in counts))
        for label in scenario.class_names
    ]
    sources = "\n".join(f"- `{name}`: {SOURCES.get(name, 'as supplied by the operator')}" for name in data["sources"])
    way = "by patient" if scenario.split_rule == "patient" else "image by image"
    kept = (
        "and were kept on one side. The split is proved clean at every run, and stands beside the model as CSV"
        if scenario.split_rule == "patient"
        else "but were not kept together by this split"
    )
    return f"""## Data

{sources or "- as supplied by the operator"}

Split 80:10:10 {way}, stratified by class and plane (slices, in brackets patients or, for pictures without patient
number, groups of near-duplicates):

{table(("class", *counts), rows)}

Samples that belong together were found before the split: all slices of a patient, identical files (pairs: {leaks["identical_pairs"]}) and
near-duplicates (pairs: {leaks["near_pairs"]}). Of these pairs {leaks["cross_patient_pairs"]} joined two patient numbers or groups and
{leaks["cross_label_pairs"]} had two labels. {leaks["groups"]} groups came of it, {kept}. Tumour boxes that come with data are
never used in training."""


def _training(scenario: Scenario, record: Mapping[str, Any]) -> str:
    phases = ", then ".join(f"{phase.epochs} epochs at {phase.size} pixels" for phase in scenario.phases)
    run, items = record["training"], record["data"]["items"]
    drawn = {
        "quota": f"{sum(scenario.samples_per_epoch.values())} slices an epoch, drawn by quota ("
        + ", ".join(f"{name} {count}" for name, count in scenario.samples_per_epoch.items())
        + ") so that classes balance (training part\nonly) and long series do not outweigh short ones",
        "under_sample": "classes balanced by random under-sampling of the training part and static augmented copies ("
        + ", ".join(f"{name} {found['pictures']} + {found['static']}" for name, found in items.items())
        + ")",
        "all": "every training slice once an epoch",
    }[scenario.sampling]
    rate = {"cosine": "warm-up and cosine", "constant": "constant after warm-up"}[scenario.schedule]
    smoothing = f"; label smoothing {scenario.label_smoothing}" if scenario.label_smoothing else ""
    mixup = (
        f"; mixup in {percent(scenario.mixup_rate)} of the batches"
        if scenario.mixup_alpha and scenario.mixup_rate
        else ""
    )
    average = f"; average of weights\n(decay {scenario.ema_decay})" if scenario.ema_decay else ""
    return f"""## Training

{phases}; {drawn}; {scenario.optimizer}, peak learning rate {scenario.learning_rate}, {rate};
batch {scenario.batch}{smoothing}{mixup}{average}. Augmentation: {_augmentation(scenario)}.
The checkpoint of epoch {run["best_epoch"] + 1} of {run["epochs"]} was chosen by its loss on the validation part
({run["best_loss"]:.4f}; accuracy there {percent(record["validation"]["metrics"]["accuracy"]["value"])}).{" The test part was scored after that choice." if record["test"] else ""}"""


def _augmentation(scenario: Scenario) -> str:
    """The changes that are switched on, in words."""
    words = {
        "rotation_deg": "rotation",
        "zoom": "zoom",
        "aspect": "aspect",
        "shear": "shear",
        "shift": "shift",
        "flip_rate": "mirroring",
        "gamma": "exponent",
        "contrast": "contrast",
        "brightness": "brightness",
        "bias_rate": "coil field",
        "noise_rate": "noise",
        "blur_rate": "blur",
        "sharpen_rate": "sharpening",
        "degrade_rate": "lower resolution",
        "jpeg_rate": "JPEG",
        "erase_rate": "erasing",
        "marks_rate": "drawn marks",
        "trim_rate": "cut strips",
    }
    return ", ".join(word for name, word in words.items() if getattr(scenario.augmentation, name)) or "none"


def _span(found: Mapping[str, Any]) -> str:
    """`0.9 (0.8 to 1.0)`, in per cent."""
    if found["low"] is None:
        return percent(found["value"])
    return f"{percent(found['value'])} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def _results(scenario: Scenario, test: Mapping[str, Any]) -> str:
    metrics = [
        (name.replace("_", " "), f"{m['value']:.4f}", f"{m['low']:.4f} – {m['high']:.4f}")
        for name, m in test["metrics"].items()
        if m["value"] is not None
    ]
    measures = ("precision", "recall", "f1", "roc_auc", "pr_auc")
    classes = [
        (name, c["slices"], c["patients"], *(_span(c[measure]) for measure in measures))
        for name, c in test["classes"].items()
    ]
    confusion = [(f"**{n}**", *row) for n, row in zip(scenario.class_names, test["confusion"], strict=True)]
    planes = [(p, f["slices"], _span(f["accuracy"])) for p, f in test["planes"].items()]
    patients = [
        (name, f["patients"], f["right"], percent(f["worst_slice_accuracy"]))
        for name, f in test["by_patient"]["classes"].items()
    ]
    unknown = " (`unknown`: pictures whose source names no plane)" if "unknown" in test["planes"] else ""
    return f"""## Results on held-back {"patients" if scenario.split_rule == "patient" else "images"}

{test["slices"]} slices of {test["patients"]} patients or groups{" that the network never saw" if scenario.split_rule == "patient" else ""}. Intervals: 95 %, by resampling whole patients
within each class (2,000 times). With so few patients they say more than the point values do.

{table(("measure", "value", "95 % interval"), metrics)}

{table(("class", "slices", "patients", "precision", "recall", "F1", "ROC-AUC", "PR-AUC"), classes)}

Confusion (rows: truth, columns: prediction):

{table(("", *scenario.class_names), confusion)}

By plane{unknown}:

{table(("plane", "slices", "accuracy"), planes)}

By patient (class with the highest mean probability over the patient's slices): {_span(test["by_patient"]["accuracy"])} right.

{table(("class", "patients", "right", "least share of right slices of any patient"), patients)}"""


def calibration_section(found: Mapping[str, Any]) -> str:
    """The part about calibration, Markdown without its heading.

    Args:
        found: `temperature`, and `validation` and `test` of `training.calibration.report`, either of which may be None.
    """
    parts = [part for part in ("validation", "test") if found[part]]
    rows = [(part, _span(found[part]["ece_before"]), _span(found[part]["ece_after"])) for part in parts]
    bins = [(b["count"], percent(b["probability"]), percent(b["accuracy"])) for b in found[parts[-1]]["reliability"]]
    return f"""Scores are divided by the temperature {found["temperature"]:.3f}, fitted on the validation part. Expected calibration error
({BINS} bins):

{table(("part", "before", "after"), rows)}

{parts[-1].capitalize()} part after calibration, slices by the probability of their prediction:

{table(("slices", "mean probability", "share right"), bins)}"""


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

{table(("what the probe sees", *shown.values()), rows)}

{verdict} **The high recall of `no_tumor` is therefore no evidence that the
network can rule out a tumour in a contrast-enhanced T1 slice.** The three tumour classes come from one collection, and
the distinction between them is not touched by this."""


def _localisation(found: Mapping[str, Any]) -> str:
    if not any(part.get("slices") for part in found.values()):
        return "## Where the heatmaps point\n\nNot measured: the data set names no tumour boxes."
    keys = ("peak_in_box", "peak_by_chance", "energy_in_box", "box_share_of_crop")
    rows = [(name, part["slices"], *(percent(part.get(key)) for key in keys)) for name, part in found.items()]
    head = ("class", "slices", "peak in box", "by chance", "heatmap in box", "by chance")
    return f"""## Where the heatmaps point

Correctly classified test slices with a known tumour box: does the heatmap's peak lie in the box (half a grid cell of slack), how much
of the heatmap does, and what chance would give (share of grid cells that would hit; share of the picture in the box):

{table(head, rows)}

**A heatmap shows where the network looked, not where the tumour is or ends; do not use it to find one.** Where the two columns are close, the
network decides by something other than the tumour itself."""


def _limits(scenario: Scenario, record: Mapping[str, Any]) -> str:
    lines = [
        "Few sources; one scanner or another population may do worse. Measure on your own patients first.",
        'It knows no other lesion (metastasis, lymphoma, abscess, stroke) and cannot say "something else".',
        "Patients behind the numbers are few; the intervals do not cover a change of hospital.",
    ]
    sources = record["data"]["sources"]
    if "cheng2017" in sources:
        lines += [
            "Slices of `cheng2017` were chosen by hand to show a tumour; whole series hold many slices near a tumour's edge "
            "that it was not trained on. Letter variants of one patient number were taken as one patient; planes were told "
            "by eye by the data's curators.",
        ]
    if {"cheng2017", "br35h"} <= set(sources) and "no_tumor" in scenario.class_names:
        lines.append(
            "`no_tumor` comes from another source than the tumours (above): a healthy slice of a contrast-enhanced series "
            "may be given a tumour class."
        )
    if "no_tumor" not in scenario.class_names:
        lines.append("It was never shown a slice without a tumour: what it says of one means nothing.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _again(record: Mapping[str, Any]) -> str:
    weights = record["scenario"]["weights"]
    start = ""
    if weights.startswith("sha256:"):
        start = (
            "`weights` names the artefact that the training started from; it has to lie in WEIGHTS. To start from "
            "another, add `--start FILE`.\n\n"
        )
    return f"""## To make it again

```
{record["repeat"]["command"]}
```

with this scenario:

```yaml
{record["repeat"]["scenario_yaml"].strip()}
```

{start}Seeds are fixed, so data, split, order and augmentation repeat; on another machine or with another number of threads
sums are rounded in another order, so that weights differ in the last digits and scores a little."""
