"""The page of the serving model: its card, its digest, and which checkpoint served when."""

from flask import render_template
from markdown_it import MarkdownIt
from markupsafe import Markup

from db.queries import checkpoints
from db.states import Role
from web.access import requires
from web.pages.blueprint import pages
from web.services import services


@pages.get("/model")
@requires(Role.SUBMITTER)
def model() -> str:
    """The serving checkpoint and the promotions before it."""
    with services().database.read() as db:
        serving = checkpoints.serving(db)
        history = checkpoints.history(db)
        names = {item.checkpoint_id: checkpoints.by_id(db, item.checkpoint_id) for item in history}
    card = render_card(serving.model_card) if serving else Markup("")
    return render_template("models/model.html", serving=serving, history=history, names=names, card=card)


def render_card(text: str) -> Markup:
    """A model card's Markdown as HTML; HTML inside it is shown as text, links and pictures are not followed."""
    renderer = MarkdownIt("js-default", {"html": False, "linkify": False}).disable("image")
    return Markup(renderer.render(text))  # noqa: S704 - the renderer escapes all HTML of its source
