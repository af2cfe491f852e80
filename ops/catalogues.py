"""The translation catalogues: `make translations` brings them up to date with the sources.

Owns which texts are to be translated: what templates and code mark by gettext, what a `Problem` says, and the tables of
sentences whose English text is the key. Writes `messages.po`, keeps every translation that still fits, and compiles
it, together with `outcomes.po` (the sentences of the batch receipt, kept by hand), into `messages.mo`, which the pages
read.

Refuses to invent a translation: a new text is left empty, and a test fails until somebody has translated it.
"""

import ast
import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from babel.messages import mofile, pofile
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract

from config.settings import ROOT

FOLDER = ROOT / "web" / "translations"
LANGUAGES = ("id",)
"""English is the language of the keys."""

KEYWORDS: dict[str, Any] = {
    "_": None,
    "gettext": None,
    "lazy_gettext": None,
    "ngettext": (1, 2),
    "Problem": (3,),
    "__init__": (3,),  # of a class derived from Problem
    "AccountError": (1,),
    "RegistryRefused": (2,),
    "ExchangeRefused": (2,),
}
TABLES = {
    "web/problems.py": ("_TITLES", "_HTTP_DETAILS"),
    "web/sentences.py": ("FURTHER", "UNKNOWN"),
    "web/steering.py": ("REFUSALS",),
    "config/dataset_problems.py": ("SENTENCES", "UNUSABLE"),
    "web/registering.py": ("REFUSALS",),
}
"""Tables of which each text that begins with a capital letter is to be translated."""
BY_HAND = "outcomes.po"

_LEFT_OUT = ('"POT-Creation', '"PO-Revision', '"Generated-By', '"Report-Msgid', "# Copyright", "# FIRST AUTHOR")
_NO_DATE = datetime(2000, 1, 1, tzinfo=UTC)
_TRANSLATOR = "the maintainers of NeuroSight"


def wanted() -> Catalog:
    """Every text that is to be translated, as a catalogue without translations, in the order of the sources."""
    catalogue = new_catalogue(None)
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        method = "jinja2" if path.suffix == ".html" else "python"
        with path.open("rb") as file:
            for _, message, comments, _context in extract(method, file, KEYWORDS, ("NOTE:",), {"encoding": "utf-8"}):
                add(catalogue, message, name, comments)
        for text in table_texts(path, TABLES.get(name, ())):
            add(catalogue, text, name, [])
    return catalogue


def sources() -> list[Path]:
    """The files that hold texts for people."""
    folders = [(ROOT / name).rglob("*.py") for name in ("db/queries", "exchange", "web")]
    folders.append((ROOT / "web").rglob("*.html"))
    return sorted([ROOT / "config/dataset_problems.py", *(path for folder in folders for path in folder)])


def add(catalogue: Catalog, message: Any, name: str, comments: list[str]) -> None:
    """Adds one text unless it is empty."""
    if isinstance(message, tuple):
        message = tuple(part for part in message if part)
        message = message[0] if len(message) == 1 else message
    if message:
        catalogue.add(message, locations=[(name, 0)], auto_comments=comments)


def table_texts(path: Path, tables: tuple[str, ...]) -> Iterator[str]:
    """The sentences of a module's tables, read from its source: no import, so that no package depends on another."""
    if not tables:
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and target.id in tables for target in targets):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value[:1].isupper():
                    yield part.value


def new_catalogue(locale: str | None) -> Catalog:
    """An empty catalogue with our header and no dates: the same sources give the same bytes."""
    return Catalog(
        locale=locale,
        project="NeuroSight",
        copyright_holder=_TRANSLATOR,
        last_translator=_TRANSLATOR,
        language_team=_TRANSLATOR,
        fuzzy=False,
    )


def read(language: str, name: str = "messages.po") -> Catalog:
    """A catalogue of a language as it is on disk; empty when there is none."""
    path = FOLDER / language / "LC_MESSAGES" / name
    if not path.exists():
        return new_catalogue(language)
    with path.open("rb") as file:
        return pofile.read_po(file, locale=language)


def updated(language: str) -> Catalog:
    """The catalogue of a language with exactly the wanted texts; translations that are there are kept."""
    before, after = read(language), new_catalogue(language)
    elsewhere = {message.id for message in read(language, BY_HAND)}
    for message in wanted():
        if message.id and message.id not in elsewhere:
            known = before.get(message.id)
            string = known.string if known is not None and not known.fuzzy else ""
            after.add(message.id, string, message.locations, message.flags, message.auto_comments)
    return after


def text_of(catalogue: Catalog) -> bytes:
    """The bytes of `messages.po`."""
    buffer = io.BytesIO()
    pofile.write_po(buffer, catalogue, width=100, omit_header=False, include_lineno=False)
    lines = buffer.getvalue().decode().splitlines(keepends=True)
    dated = (
        '"POT-Creation-Date',
        '"PO-Revision-Date',
        '"Generated-By',
        '"Report-Msgid',
        "# Copyright",
        "# FIRST AUTHOR",
    )
    return "".join(line for line in lines if not line.startswith(dated)).encode()


def compiled(language: str) -> bytes:
    """The bytes of `messages.mo`: everything that is translated, from both files."""
    whole, buffer = read(language), io.BytesIO()
    for message in read(language, BY_HAND):
        if message.id:
            whole.add(message.id, message.string, flags=message.flags)
    whole.creation_date = whole.revision_date = _NO_DATE  # else every run gives other bytes
    mofile.write_mo(buffer, whole)
    return buffer.getvalue()


def is_translated(message: Message) -> bool:
    """Whether every form of a text has its translation, and nobody marked it as doubtful."""
    forms = message.string if isinstance(message.string, (tuple, list)) else (message.string,)
    return all(forms) and not message.fuzzy


def main() -> int:
    """Writes all catalogues; exit status 1 when texts are left to be translated."""
    missing = 0
    for language in LANGUAGES:
        folder = FOLDER / language / "LC_MESSAGES"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "messages.po").write_bytes(text_of(updated(language)))
        catalogue = read(language)
        (folder / "messages.mo").write_bytes(compiled(language))
        empty = [message.id for message in catalogue if message.id and not is_translated(message)]
        missing += len(empty)
        print(f"{language}: {len(catalogue)} texts, {len(empty)} to be translated")
        for text in empty:
            print(f"  {text!r}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
