"""What every field of a scenario may hold.

Owns: type, range and wording of each field, the rules between fields, and the search for all mistakes of a record at
once. Refuses: to read files and to build anything; it needs no TensorFlow.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Final, get_type_hints

from imaging.preprocess import Preprocessing, PreprocessingError
from inference.networks import names as network_names
from training.augment import Augmentation
from training.errors import Mistake

PLANES: Final = ("axial", "coronal", "sagittal")
SECTIONS: Final = ("head", "preprocessing", "augmentation")
"""Fields that are mappings with fields of their own."""

Path = tuple[str | int, ...]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CLASS: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,62}")
_LAYER: Final = re.compile(r"[A-Za-z0-9_]{1,100}")
_WEIGHTS: Final = re.compile(r"imagenet|none|sha256:[0-9a-f]{64}")
_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "text": str,
    "a whole number": int,
    "a number": (int, float),
    "a list": (list, tuple),
    "a mapping": Mapping,
    "true or false": bool,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field may hold: a kind of value, a condition, and the words for both."""

    kind: str
    expected: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


def _one_of(*choices: str) -> Rule:
    return Rule("text", f"one of {', '.join(choices)}", lambda value: value in choices, choices)


def _matches(pattern: re.Pattern[str], expected: str) -> Rule:
    return Rule("text", expected, lambda value: bool(pattern.fullmatch(value)))


def _whole(low: int, high: int, off: bool = False) -> Rule:
    words = f"a whole number from {low} to {high}" + (", 0 being off" if off else "")
    return Rule("a whole number", words, lambda value: low <= value <= high)


def _number(low: float, high: float, *, above: bool = False, below: bool = False, off: bool = False) -> Rule:
    """From `low` to `high`; `above` and `below` leave out the ends."""
    words = f"{'above' if above else 'from'} {low:g} {'up to below' if below else 'to'} {high:g}"
    words = f"a number {words}" + (", 0 being off" if off else "")
    return Rule(
        "a number",
        words,
        lambda value: (low < value if above else low <= value) and (value < high if below else value <= high),
    )


def _different(pattern: re.Pattern[str] | tuple[str, ...], least: int, expected: str) -> Rule:
    def fits(value: Any) -> bool:
        return isinstance(value, str) and (
            value in pattern if isinstance(pattern, tuple) else bool(pattern.fullmatch(value))
        )

    return Rule(
        "a list",
        expected,
        lambda values: all(map(fits, values)) and len(set(values)) == len(values) >= least,
        pattern if isinstance(pattern, tuple) else (),
    )


RULES: Final[Mapping[str, Rule]] = {
    "name": _matches(_NAME, "1 to 100 letters, digits, dots, dashes and underscores"),
    "network": _one_of(*network_names()),
    "weights": _matches(_WEIGHTS, "imagenet, none or sha256:<64 hexadecimal digits>"),
    "class_names": _different(_CLASS, 2, "two or more different names in lower case, with digits and underscores"),
    "planes": _different(PLANES, 0, "some of axial, coronal, sagittal; empty for all"),
    "split_rule": _one_of("patient", "image"),
    "phases": Rule("a list", "one or more mappings {size, epochs}", lambda value: len(value) > 0),
    "phases.size": _whole(32, 1024),
    "phases.epochs": _whole(1, 1000),
    "phases.cosine_until": _number(0, 1),
    "sampling": _one_of("quota", "under_sample", "all"),
    "samples_per_epoch": Rule("a mapping", "class names with numbers of slices", lambda value: True),
    "static_per_class": _whole(0, 1_000_000, off=True),
    "learns": _matches(_LAYER, "all, head or the name of a backbone layer"),
    "views": _whole(1, 100),
    "cache_size": _whole(32, 2048),
    "patient_power": _number(0, 2),
    "batch": _whole(2, 1024),
    "optimizer": _one_of("adamw", "adam", "sgd", "rmsprop"),
    "learning_rate": _number(0, 10, above=True, below=True),
    "weight_decay": _number(0, 1, below=True),
    "schedule": _one_of("cosine", "constant"),
    "warm_up_epochs": _number(0, 1000),
    "label_smoothing": _number(0, 1, below=True),
    "mixup_alpha": _number(0, 100, off=True),
    "mixup_rate": _number(0, 1),
    "drop_path": _number(0, 1, below=True),
    "ema_decay": _number(0, 1, below=True, off=True),
    "clip_norm": _number(0, 1e9, off=True),
    "patience_epochs": _whole(0, 1000, off=True),
    "seed": _whole(0, 2**32 - 1),
    "head": Rule("a mapping", "a mapping of head fields", lambda value: True),
    "head.units": _whole(1, 65_536),
    "head.dropout": _number(0, 1, below=True),
    "head.activation": _one_of("softmax", "sigmoid"),
    "preprocessing": Rule("a mapping", "a mapping of preprocessing fields", lambda value: True),
    "augmentation": Rule("a mapping", "a mapping of augmentation fields", lambda value: True),
    "augmentation.rotation_deg": _number(0, 180),
    **{
        f"augmentation.{field.name}": _number(0, 1 if field.name.endswith("_rate") else 2)
        for field in fields(Augmentation)
        if field.name != "rotation_deg"
    },
}
REQUIRED: Final = ("name", "network", "class_names", "phases")


def find_mistakes(record: Mapping[str, Any], complete: bool = True) -> list[tuple[Path, Mistake]]:
    """Everything that is wrong with a scenario, in the order of its fields.

    Args:
        record: Field -> value, as a YAML mapping has it; lists may be tuples.
        complete: Whether to look for missing fields and at rules between fields as well.

    Returns:
        Where each mistake stands, and the mistake; rules between fields are looked at when each of the fields is right.
    """
    found: list[tuple[Path, Mistake]] = []
    for key, value in record.items():
        found += _field((key,), str(key), value)
    if not complete:
        return found
    for name in REQUIRED:
        if name not in record:
            found.append(((), mistake(name, None, RULES[name].expected, f"{name} is missing; expected {{expected}}.")))
    wrong = {str(path[0]) for path, _ in found if path} | {name for name in REQUIRED if name not in record}
    for path, concerned, problem in _between(record, wrong):
        if not wrong & set(concerned):
            found.append((path, problem))
    return found


def mistake(
    field: str, value: Any, expected: str, wording: str = "{field} is {value}; expected {expected}."
) -> Mistake:
    """A mistake with its sentence; `wording` may name field, value and expected."""
    shown = repr(list(value) if isinstance(value, tuple) else value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return Mistake(field, shown, expected, wording.format(field=field, value=shown, expected=expected))


def known_fields(section: str = "") -> tuple[str, ...]:
    """The names of a scenario's fields, or of those of one of its sections."""
    if section == "preprocessing":
        return tuple(field.name for field in fields(Preprocessing))
    prefix = f"{section}." if section else ""
    names = [name.removeprefix(prefix) for name in RULES if name.startswith(prefix)]
    return tuple(name for name in names if "." not in name)


def unknown(field: str, name: str, known: Sequence[str]) -> Mistake:
    """The mistake of a name that nobody knows, with the nearest one that is known."""
    near = get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."
    return Mistake(field, name[:80], f"one of {', '.join(known)}", f"{field[:80]} is unknown; {hint}")


def _field(path: Path, name: str, value: Any) -> Iterator[tuple[Path, Mistake]]:
    """The mistakes of one field and of what stands below it."""
    if name not in RULES:
        yield path, unknown(name, name, known_fields())
        return
    rule = RULES[name]
    problem = check(name, value, rule)
    if problem is not None:
        yield path, problem
    elif name in SECTIONS:
        for key, inner in value.items():
            yield from _inner((*path, key), name, str(key), inner)
    elif name == "phases":
        for number, phase in enumerate(value):
            yield from _phase((*path, number), phase)


def check(name: str, value: Any, rule: Rule) -> Mistake | None:
    """What is wrong with one value; None when nothing is."""
    kind = _KINDS[rule.kind]
    right_type = isinstance(value, kind) and (not isinstance(value, bool) or kind is bool)
    finite = not isinstance(value, float) or math.isfinite(value)
    if right_type and finite and rule.holds(value):
        return None
    expected = rule.expected if rule.kind in rule.expected or rule.kind == "text" else f"{rule.kind}: {rule.expected}"
    items = value if isinstance(value, list | tuple) else [value]
    wrong = [item for item in items if isinstance(item, str) and item not in rule.choices]
    near = get_close_matches(wrong[0], rule.choices, 1, 0.5) if wrong and rule.choices else []
    hint = f" Did you mean {near[0]}?" if near else ""
    return mistake(name, value, expected, "{field} is {value}; expected {expected}." + hint)


def _inner(path: Path, section: str, key: str, value: Any) -> Iterator[tuple[Path, Mistake]]:
    """The mistakes of one field of a section."""
    name = f"{section}.{key}"
    if key not in known_fields(section):
        yield path, unknown(name, key, known_fields(section))
        return
    problem = _preprocessing(name, key, value) if section == "preprocessing" else check(name, value, RULES[name])
    if problem is not None:
        yield path, problem


def _preprocessing(name: str, key: str, value: Any) -> Mistake | None:
    """What is wrong with one field of the preprocessing, whose ranges `Preprocessing` knows itself."""
    kind = get_type_hints(Preprocessing)[key]
    words = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
    problem = check(name, value, Rule(words, words, lambda _: True))
    if problem is not None:
        return problem
    # A percentile is judged alone here, with the other one out of the way; both together in `_between`.
    room = {"low_percentile": {"high_percentile": 100.0}, "high_percentile": {"low_percentile": 0.0}}.get(key, {})
    try:
        replace(Preprocessing(), **{**room, key: value})
    except PreprocessingError as error:
        expected = str(error).partition("expected ")[2].partition(". ")[0]
        return mistake(name, value, expected)
    return None


def _phase(path: Path, phase: Any) -> Iterator[tuple[Path, Mistake]]:
    name = f"phases[{path[-1]}]"
    if not isinstance(phase, Mapping):
        yield path, mistake(name, phase, "a mapping {size, epochs}")
        return
    for key, value in phase.items():
        if key not in known_fields("phases"):
            yield (*path, key), unknown(f"{name}.{key}", str(key), known_fields("phases"))
        elif not (key == "cosine_until" and value is None):
            problem = check(f"{name}.{key}", value, RULES[f"phases.{key}"])
            if problem is not None:
                yield (*path, key), problem
    for key in ("size", "epochs"):
        if key not in phase:
            yield path, mistake(f"{name}.{key}", None, RULES[f"phases.{key}"].expected, "{field} is missing.")


def _between(record: Mapping[str, Any], wrong: set[str]) -> Iterator[tuple[Path, tuple[str, ...], Mistake]]:
    """Rules between fields: where, which fields are concerned, and the mistake."""
    classes = record.get("class_names", ())
    sampling, counts = record.get("sampling", "quota"), record.get("samples_per_epoch", {})
    if not wrong & {"class_names", "sampling", "samples_per_epoch"}:
        at: Path = ("samples_per_epoch",) if "samples_per_epoch" in record else ()
        quota = sampling == "quota"
        good = all(type(count) is int and 0 < count <= 10**7 for count in counts.values())
        if set(counts) != (set(classes) if quota else set()) or not good:
            expected = (
                f"a number of slices above 0 for each of {', '.join(classes)}"
                if quota
                else f"nothing with `sampling: {sampling}`"
            )
            yield at, (), mistake("samples_per_epoch", counts, expected)
    static = record.get("static_per_class", 0)
    if sampling != "under_sample" and static:
        expected = "0, or `sampling: under_sample`"
        yield ("static_per_class",), ("static_per_class", "sampling"), mistake("static_per_class", static, expected)
    if record.get("learns", "all") == "all" and record.get("views", 1) != 1:
        expected = "1 with `learns: all`, of which nothing can be cached"
        yield ("views",), ("views", "learns"), mistake("views", record["views"], expected)
    if record.get("learns", "all") != "all":
        yield from _frozen(record)
    if "head" not in wrong and record.get("head", {}).get("activation") == "sigmoid" and len(classes) != 2:
        expected = f"softmax for {len(classes)} classes; a sigmoid head tells two apart"
        problem = mistake("head.activation", "sigmoid", expected)
        yield ("head", "activation"), ("head", "class_names"), problem
    if not wrong & {"preprocessing", "phases"} and record.get("phases"):
        yield from _sizes(record)


def _frozen(record: Mapping[str, Any]) -> Iterator[tuple[Path, tuple[str, ...], Mistake]]:
    """What the frozen part's output, made once for each view of a picture, does not allow."""
    rate, alpha = record.get("mixup_rate", 0.3), record.get("mixup_alpha", 0.3)
    if rate and alpha:
        expected = "0 unless `learns: all`: pictures are mixed anew in each step, and the frozen part's output is kept"
        yield ("mixup_rate",), ("mixup_rate", "mixup_alpha", "learns"), mistake("mixup_rate", rate, expected)
    sizes = [phase.get("size") for phase in record.get("phases", ()) if isinstance(phase, Mapping)]
    if len(set(sizes)) > 1:
        expected = "one size in all phases unless `learns: all`"
        yield ("phases",), ("phases", "learns"), mistake("phases.size", sizes, expected)


def _sizes(record: Mapping[str, Any]) -> Iterator[tuple[Path, tuple[str, ...], Mistake]]:
    preprocessing = record.get("preprocessing", {})
    size, last = preprocessing.get("size", Preprocessing().size), record["phases"][-1]["size"]
    if last != size:
        field = f"phases[{len(record['phases']) - 1}].size"
        expected = f"{size}, the exported size (preprocessing.size), because only that size competes for the best epoch"
        yield ("phases", len(record["phases"]) - 1, "size"), (), mistake(field, last, expected)
    try:
        Preprocessing(**preprocessing)
    except PreprocessingError as error:
        yield ("preprocessing",), (), mistake("preprocessing", preprocessing, str(error))
