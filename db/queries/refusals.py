"""What the registry and the exchange with archives refuse, and why.

Owns the exceptions of their queries, with the sentence as an English template, and the rule for reasons.
Refuses to know HTTP: `web.problems` turns it into an answer, pages translate the template.
"""

from collections.abc import Mapping
from typing import Any, Final

REASON_LENGTH: Final = 500


class ActionRefused(Exception):
    """An action that was not carried out; nothing was changed.

    Args:
        code: Stable machine-readable name, `lower_snake_case`.
        template: What was received, what was expected, how to go on; with `%(name)s` places for `facts`.
        facts: What fills the places.
        status: The HTTP status it is answered with.
    """

    def __init__(self, code: str, template: str, facts: Mapping[str, Any] | None = None, *, status: int = 409) -> None:
        self.code, self.template, self.facts, self.status = code, template, dict(facts or {}), status
        super().__init__(template % self.facts if self.facts else template)


class RegistryRefused(ActionRefused):
    """An action on the registry."""


class ExchangeRefused(ActionRefused):
    """An exchange with an archive, or the making of what would go out."""


def clean_reason(reason: str) -> str:
    """The reason as it is kept.

    Raises:
        RegistryRefused: `reason_missing` or `reason_too_long`.
    """
    text = " ".join(reason.split())
    if not text:
        raise RegistryRefused(
            "reason_missing",
            "Give a reason: it stands in the history and with every result that it concerns.",
            status=422,
        )
    if len(text) > REASON_LENGTH:
        raise RegistryRefused(
            "reason_too_long",
            "The reason has %(length)s characters; at most %(limit)s are kept.",
            {"length": len(text), "limit": REASON_LENGTH},
            status=422,
        )
    return text
