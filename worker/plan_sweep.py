"""Plans a sweep: its scenario file becomes runs, or it is refused with every mistake.

Owns the check of scenarios against the registered data set and the weights at hand, so that what cannot work is said
within a second and not after hours. Refuses to train, and needs no TensorFlow.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches

import structlog

from config.scenario_texts import FOLDER
from config.version import code_version
from db.queries import claims
from db.queries import training as rows
from db.queries.claims import Claim
from db.queries.training import PlannedRun, SweepToPlan
from inference.networks import backbone_spec
from training.errors import Mistake, ScenarioError
from training.groups import sharing_key
from training.scenario import Scenario
from training.scenario_files import ScenarioFile, parse_scenarios
from worker.context import Context
from worker.lease import Lease

OWN_TEXT = "scenarios"
"""What a text that is no file is called in its mistakes."""

log = structlog.get_logger(__name__)


def run(context: Context, claim: Claim, lease: Lease) -> None:
    """Does a claimed planning item from beginning to end.

    Raises:
        LeaseLost: Somebody else has it, or the sweep was cancelled.
        Exception: Whatever `worker.work` is to judge.
    """
    with context.database.read() as session:
        wanted = rows.to_plan(session, claim)
    if wanted is None:
        context.write(lease, lambda session: claims.finish(session, claim, note="gone"))
        return
    sweep_id = wanted.sweep_id
    try:
        file = parse_scenarios(wanted.scenario_text, wanted.scenario_file or OWN_TEXT, FOLDER)
        mistakes = list(find_mistakes(file, wanted, context))
    except ScenarioError as error:
        mistakes = list(error.mistakes)
    if mistakes:
        problems = [mistake.to_json() for mistake in mistakes]
        context.write(lease, lambda session: rows.refuse(session, claim, sweep_id, problems))
        log.info("sweep_refused", sweep_id=str(sweep_id), mistakes=len(mistakes))
        return
    planned = [
        PlannedRun(scenario.name, scenario.to_json(), scenario.digest(), sharing_key(scenario), scenario.epochs)
        for scenario in file.scenarios
    ]
    item_ids = context.write(
        lease,
        lambda session: rows.plan(session, claim, sweep_id, planned, context.settings, code_version=code_version()),
    )
    context.doorbell.ring_committed(context.database, item_ids)
    log.info("sweep_planned", sweep_id=str(sweep_id), runs=len(planned), groups=len(item_ids))


def find_mistakes(file: ScenarioFile, wanted: SweepToPlan, context: Context) -> Iterator[Mistake]:
    """What of valid scenarios does not fit the data set or this installation; each thing once.

    Args:
        file: The scenarios.
        wanted: What the data set holds.
        context: Folder of ImageNet weights, and the store in which artefacts lie.
    """
    told: set[tuple[str, str]] = set()
    for scenario in file.scenarios:
        for mistake in (*_unknown(scenario, wanted, file.text), *_weights(scenario, context, file.text)):
            if (mistake.field, mistake.value) not in told:
                told.add((mistake.field, mistake.value))
                yield mistake


def _unknown(scenario: Scenario, wanted: SweepToPlan, text: str) -> Iterator[Mistake]:
    """Classes and planes that the data set does not have."""
    for field, names, there in (
        ("class_names", scenario.class_names, wanted.classes),
        ("planes", scenario.planes, wanted.planes),
    ):
        known = sorted(name for name in there if name)
        for name in names:
            if name in there:
                continue
            near = get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            listed = ", ".join(known) or "none"
            what = "class" if field == "class_names" else "plane"
            yield Mistake(
                field=field,
                value=name,
                expected=listed,
                message=f"{field}: the data set {wanted.dataset_name!r} has no {what} {name!r}; it has: "
                f"{listed}.{hint}",
                line=line_of(text, field),
            )


def _weights(scenario: Scenario, context: Context, text: str) -> Iterator[Mistake]:
    """Weights that are not at hand."""
    kind, _, digest = scenario.weights.partition(":")
    folder = context.settings.weights_dir
    if kind == "imagenet":
        name = backbone_spec(scenario.network).imagenet_file
        if not (folder / name).is_file():
            yield Mistake(
                field="weights",
                value=f"imagenet ({scenario.network})",
                expected=f"{name} in {folder}, or `weights: none`",
                message=f"weights: the ImageNet weights of {scenario.network!r} are missing: looked for {name} in "
                f"{folder} (setting NEUROSIGHT_WEIGHTS_DIR). Put the file there, leave the network out, or write "
                "`weights: none` to start from random weights.",
                line=line_of(text, "network") or line_of(text, "weights"),
            )
    elif kind == "sha256" and not context.blobs.exists(digest):
        yield Mistake(
            field="weights",
            value=scenario.weights,
            expected="the SHA-256 of a registered artefact",
            message=f"weights: no artefact of this SHA-256 is registered: {digest}. Import it first (Training, "
            "Models), or name another.",
            line=line_of(text, "weights"),
        )


def line_of(text: str, field: str) -> int:
    """The first line in which a field is named, counted from 1; 0 when it is inherited."""
    named = re.compile(rf"^\s*{re.escape(field)}\s*:")
    return next((number for number, line in enumerate(text.splitlines(), 1) if named.match(line)), 0)
