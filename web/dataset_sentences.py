"""What is wrong with a data set, or to be kept in mind, in the reader's language.

Owns filling in the templates of `config.dataset_problems`. A file that is no picture has the sentence of the batch
receipt; what a worker ran into has that of a job.
"""

from collections.abc import Callable, Mapping
from typing import Any

from config.dataset_problems import SENTENCES, UNUSABLE
from web.sentences import template_of


def template_of_problem(
    problem: Mapping[str, Any], translate: Callable[[str], str] = str
) -> tuple[str, dict[str, Any]]:
    """The English template of an entry of `TrainingDataset.problems`, and what fills it.

    Args:
        problem: {code, detail}.
        translate: For the sentence within the sentence that says what is wrong with a file.

    Returns:
        (template, values).
    """
    code, values = str(problem.get("code", "")), dict(problem.get("detail") or {})
    if code == "dataset_file":
        why, facts = template_of(str(values.get("reason", "")), values.get("facts"))
        translated = translate(why)
        values["why"] = translated % facts if facts else translated
    template = SENTENCES.get(code)
    if template is None:
        general, facts = template_of(code, values)
        return (general, facts) if not general.startswith("The code of the reason") else (UNUSABLE, {"code": code})
    try:
        template % values
    except (KeyError, TypeError, ValueError):
        return UNUSABLE, {"code": code}
    return template, values
