"""YAML with line numbers.

Owns: turning the text of a scenario file into plain values and the line of each of them. Refuses: tags beyond YAML's
own types, the same key twice, texts that are too large or that unfold into too much.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from training.errors import Mistake

MAX_CHARACTERS: Final = 256 * 1024
_MAX_NODES: Final = 20_000
_MAX_DEPTH: Final = 12

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Parsed:
    """A file's content.

    Attributes:
        values: The mapping at the top; empty when there is none.
        lines: Line, counted from 1, of each value by its path; that of the key in a mapping.
        mistakes: What is wrong with the file itself.
    """

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but 1e-4 is a number, as in YAML 1.2 and as people write learning rates."""


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+"), list("-+0123456789")
)


def parse(text: str, origin: str) -> Parsed:
    """Read the text of a file.

    Args:
        text: YAML.
        origin: The file's name, for mistakes.
    """
    parsed = Parsed()
    if len(text) > MAX_CHARACTERS:
        words = f"The file has {len(text)} characters; at most {MAX_CHARACTERS} are read."
        parsed.mistakes.append(Mistake("", "", f"at most {MAX_CHARACTERS} characters", words, 1, origin))
        return parsed
    try:
        root = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        parsed.mistakes.append(_syntax(error, text, origin))
        return parsed
    except RecursionError:
        words = "Lists and mappings stand too deep in one another."
        parsed.mistakes.append(Mistake("", "", f"at most {_MAX_DEPTH} levels", words, 1, origin))
        return parsed
    if not isinstance(root, yaml.MappingNode):
        found = {yaml.ScalarNode: "one value", yaml.SequenceNode: "a list"}.get(type(root), "nothing")
        words = f"The file holds {found}; expected a mapping of scenario fields."
        line = root.start_mark.line + 1 if root is not None else 1
        parsed.mistakes.append(Mistake("", found, "a mapping of scenario fields", words, line, origin))
        return parsed
    parsed.values.update(_Reader(parsed, origin).mapping(root, ()))
    return parsed


def _syntax(error: yaml.YAMLError, text: str, origin: str) -> Mistake:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line, words = error.problem_mark.line + 1, ", ".join(filter(None, (error.problem, error.context)))
    elif isinstance(error, yaml.reader.ReaderError):
        line, words = text.count("\n", 0, error.position) + 1, "a character that YAML does not allow"
    else:
        line, words = 1, "unreadable"
    return Mistake("", "", "valid YAML", f"This is not valid YAML: {words}.", line, origin)


class _Reader:
    """Turns nodes into values, noting lines and mistakes."""

    def __init__(self, parsed: Parsed, origin: str) -> None:
        self._parsed, self._origin = parsed, origin
        self._nodes = 0
        self._scalars = yaml.constructor.SafeConstructor()

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        """A mapping's values by key."""
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                self._note(path, repr(key), "text as the name of a field", "A field's name must be text.", line)
            elif key in found:
                words = f"{'.'.join(map(str, (*path, key)))} stands twice; say it once."
                self._note((*path, key), key, "each field once", words, line)
            else:
                # Before the value is read: what stands in it may refer back to it.
                self._parsed.lines[(*path, key)] = line
                found[key] = self._value(value_node, (*path, key))
        return found

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            if self._nodes <= _MAX_NODES or self._nodes == _MAX_NODES + 1:
                words = f"The file unfolds into more than {_MAX_NODES} values or {_MAX_DEPTH} levels."
                self._note(path, "", "a smaller file", words, node.start_mark.line + 1)
                self._nodes = _MAX_NODES + 1
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self._parsed.lines[(*path, number)] = item.start_mark.line + 1
            return [self._value(item, (*path, number)) for number, item in enumerate(node.value)]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            shown = str(node.value)[:80]
            self._note((), shown, "a plain value", f"{shown!r} cannot be read as {node.tag}.", node.start_mark.line + 1)
            return None

    def _note(self, path: Path, value: str, expected: str, message: str, line: int) -> None:
        field_name = ".".join(map(str, path))
        self._parsed.mistakes.append(Mistake(field_name, value[:80], expected, message, line, self._origin))
