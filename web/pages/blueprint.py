"""The one blueprint on which all pages hang. Owns nothing else, so that every module of pages can import it."""

from flask import Blueprint

pages = Blueprint("pages", "web.pages")
