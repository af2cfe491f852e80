"""docs/settings.md, made from the settings themselves.

Owns the page's layout. Refuses to say anything that `config.settings` does not say; a test compares the page with what
this module would write.
"""

from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from config.settings import ROOT, Settings

PAGE = ROOT / "docs" / "settings.md"

HEAD = """\
# Settings

Every setting is an environment variable, or a line of `var/neurosight.env` (`NAME=value`; the environment wins).
Units stand in the names. All are checked at start: a wrong one stops the process with a sentence that names it.
This page is written by `make docs`.

| setting | default | bounds | meaning |
|---|---|---|---|
"""


def render() -> str:
    """The page."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if field.default_factory is not None:
            shown = f"`{field.default_factory({'var_dir': Path('var_dir')})}`"  # type: ignore[call-arg] # takes values
        elif default is PydanticUndefined:
            shown = "required"
        elif hasattr(default, "get_secret_value"):
            shown = "none"
        elif isinstance(default, Path):
            shown = f"`{default.relative_to(ROOT) if default.is_relative_to(ROOT) else default}`"
        else:
            shown = f"`{default}`" if default != "" else "empty"
        rows.append(f"| `NEUROSIGHT_{name.upper()}` | {shown} | {_bounds(field)} | {field.description or ''} |")
    return HEAD + "\n".join(rows) + "\n"


def _bounds(field: Any) -> str:
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return " or ".join(f"`{choice}`" for choice in choices)
    signs = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
    return ", ".join(
        text.format(f"{getattr(rule, sign):g}" if isinstance(getattr(rule, sign), float) else getattr(rule, sign))
        for rule in field.metadata
        for sign, text in signs.items()
        if getattr(rule, sign, None) is not None
    )


def run(*, write: bool) -> int:
    """Prints the page, or writes it."""
    if write:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(render())
        print(f"neurosight: wrote {PAGE.relative_to(ROOT)}")
    else:
        print(render(), end="")
    return 0
