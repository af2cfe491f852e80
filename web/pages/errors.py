"""The page that a refused request shows. Owns its looks; `web.problems` owns what it says."""

from flask import Flask, render_template
from flask_babel import gettext

from web.pages.languages import sentence
from web.problems import ERROR_PAGE, Problem


def init_app(app: Flask) -> None:
    """Hands the page to `web.problems`."""
    app.extensions[ERROR_PAGE] = page


def page(problem: Problem) -> str:
    """Renders a problem."""
    return render_template(
        "error.html",
        problem=problem,
        title=gettext(problem.title),
        detail=sentence(problem.template, dict(problem.facts)),
    )
