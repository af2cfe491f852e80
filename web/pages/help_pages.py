"""The help page: how to send, what the results mean and do not mean, keys."""

from flask import render_template

from db.states import Role
from web.access import requires
from web.pages.blueprint import pages


@pages.get("/help")
@requires(Role.SUBMITTER)
def help() -> str:
    """Shows the help."""
    return render_template("help.html")
