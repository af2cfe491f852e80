"""The pages people see: one module a feature, all routes on one blueprint.

Owns forms, lists and views rendered on the server. Refuses business rules: it asks `db.queries` and shows the answer.
Every page works without scripts; scripts make it live.
"""

from flask import Flask

from web.pages import (
    blueprint,
    display,
    errors,
    exchange_words,
    guard_words,
    languages,
    navigation,
    training_words,
    words,
)


def init_app(app: Flask) -> None:
    """Hangs the pages, their languages, their filters and the error page on an app."""
    from web.pages import (
        account,
        admin,
        agreement,
        candidates,
        checkpoints,
        choosing,
        datasets,
        decisions,
        drift,
        erasing,
        help_pages,
        jobs,
        peers,
        predictions,
        report,
        retrievals,
        reviewing,
        runs,
        sendings,
        sign_in,
        studies,
        submit,
        sweeps,
        worklist,
    )

    languages.init_app(app)
    display.init_app(app)
    words.init_app(app)
    guard_words.init_app(app)
    training_words.init_app(app)
    exchange_words.init_app(app)
    navigation.init_app(app)
    errors.init_app(app)
    for module in (
        sign_in,
        account,
        submit,
        jobs,
        studies,
        choosing,
        sendings,
        decisions,
        reviewing,
        worklist,
        drift,
        report,
        erasing,
        datasets,
        predictions,
        checkpoints,
        candidates,
        sweeps,
        runs,
        admin,
        agreement,
        peers,
        retrievals,
        help_pages,
    ):
        assert module.__name__.startswith("web.pages.")  # noqa: S101 - imported for its routes
    app.register_blueprint(blueprint.pages)
