"""English and Indonesian: which language an answer speaks, and the catalogue behind it.

Owns the choice (the user's setting, else this browser's choice, else its header, else the installation's default) and
the translation of texts that come as data: reasons of the receipt, problems, class names.
"""

from collections.abc import Callable
from typing import Any

from flask import Flask, request, session
from flask_babel import Babel, get_locale, gettext, lazy_gettext
from jinja2 import pass_context
from jinja2.runtime import Context

from config.settings import ROOT
from web.access import current_user
from web.services import services

LANGUAGES = {"en": "English", "id": "Bahasa Indonesia"}

CLASS_NAMES = {
    "glioma": lazy_gettext("glioma"),
    "meningioma": lazy_gettext("meningioma"),
    "pituitary": lazy_gettext("pituitary tumour"),
    "no_tumor": lazy_gettext("no tumour"),
}

PLANES = {
    "axial": lazy_gettext("axial"),
    "coronal": lazy_gettext("coronal"),
    "sagittal": lazy_gettext("sagittal"),
    "oblique": lazy_gettext("oblique"),
    "localizer": lazy_gettext("localizer"),
    "unknown": lazy_gettext("plane unknown"),
}


def init_app(app: Flask) -> None:
    """Installs Flask-Babel and what templates need of it."""
    app.config["BABEL_TRANSLATION_DIRECTORIES"] = str(ROOT / "web" / "translations")
    Babel(app, locale_selector=choose, default_locale=services(app).settings.default_locale)
    app.jinja_env.globals.update(languages=LANGUAGES, language=language)
    add_filters(app, class_label=class_label, plane_label=plane_label)


def add_filters(app: Flask, **filters: Callable[..., str]) -> None:
    """Adds template filters whose answer depends on the reader's language.

    They ask for Jinja's context only so that Jinja does not compute `"admin"|role_label` once, when it compiles the
    template: that would be in the first reader's language, for everybody.
    """
    for name, function in filters.items():

        def answer(_context: Context, *values: Any, function: Callable[..., str] = function) -> str:
            return function(*values)

        app.jinja_env.filters[name] = pass_context(answer)


def choose() -> str:
    """The language of this answer."""
    user = current_user()
    if user and user.locale in LANGUAGES:
        return user.locale
    chosen = session.get("locale")
    if chosen in LANGUAGES:
        return str(chosen)
    default = services().settings.default_locale
    return request.accept_languages.best_match([default, *LANGUAGES]) or default


def language() -> str:
    """The language code of this answer, for the `lang` attribute."""
    locale = get_locale()
    return locale.language if locale else "en"


def class_label(name: str) -> str:
    """A class name for people, in their language; unknown names as they are."""
    return str(CLASS_NAMES.get(name, name.replace("_", " ")))


def plane_label(name: str | None) -> str:
    """A plane for people, in their language."""
    return str(PLANES.get(name or "unknown", name))


def sentence(template: str, values: dict[str, object]) -> str:
    """A sentence that comes as an English template, translated and then filled in."""
    translated = str(gettext(template))
    return translated % values if values else translated
