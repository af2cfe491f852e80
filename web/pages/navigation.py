"""The part of the site about training: its tabs, and which pages stand under which of them.

Owns this one table, from which the header and the tabs are drawn. A new page under a tab is named in the tab's
`pages`; a new tab is one more row. The first tab is where the header's entry leads.
"""

from dataclasses import dataclass

from flask import Flask
from flask_babel import lazy_gettext


@dataclass(frozen=True)
class Tab:
    """One tab.

    Attributes:
        endpoint: Where it leads.
        label: What it says, in the reader's language.
        pages: Endpoints of all pages that stand under it.
    """

    endpoint: str
    label: object
    pages: frozenset[str]


TRAINING_TABS = (
    Tab(
        "pages.sweeps",
        lazy_gettext("Sweeps"),
        frozenset(
            {"pages.sweeps", "pages.new_sweep", "pages.create_sweep", "pages.sweep", "pages.run", "pages.compare_runs"}
        ),
    ),
    Tab(
        "pages.datasets",
        lazy_gettext("Data sets"),
        frozenset(
            {"pages.datasets", "pages.new_dataset", "pages.dataset", "pages.create_dataset", "pages.upload_dataset"}
        ),
    ),
    Tab(
        "pages.checkpoints",
        lazy_gettext("Models"),
        frozenset(
            {
                "pages.model",
                "pages.checkpoints",
                "pages.checkpoint",
                "pages.promote",
                "pages.promote_checkpoint",
                "pages.recall",
                "pages.import_checkpoint",
                "pages.import_file",
                "pages.shadow",
            }
        ),
    ),
)


def init_app(app: Flask) -> None:
    """Gives templates the tabs."""
    app.jinja_env.globals.update(
        training_tabs=TRAINING_TABS, training_pages=frozenset[str]().union(*(tab.pages for tab in TRAINING_TABS))
    )
