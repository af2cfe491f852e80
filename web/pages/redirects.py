"""Where a page may send the browser next: only to an address of this site.

Owns the check of addresses that came with a request. Refuses whatever a browser could read as another host.
"""

from urllib.parse import urlsplit

from flask import Response, redirect, url_for


def safe_path(wanted: str | None) -> str | None:
    """An address to go back to, as it came.

    Args:
        wanted: What the request named; not to be trusted.

    Returns:
        The same path with its query; None when it is empty, names a scheme or a host, could be read as one by a
        browser (`//host`, `/\\host`), or holds control characters.
    """
    if not wanted or not wanted.startswith("/") or len(wanted) > 2000:
        return None
    if any(ord(character) <= 32 or character == "\\" for character in wanted):
        return None
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return None
    if wanted.startswith("//") or parts.scheme or parts.netloc:
        return None
    return wanted.rstrip("?")


def see(endpoint: str, **values: object) -> Response:
    """Sends the browser to a page with GET, after a form was carried out."""
    return go(url_for(endpoint, **values))  # type: ignore[arg-type] # url_for takes any value of a route


def go(path: str) -> Response:
    """Sends the browser to a path of this site with GET."""
    response = redirect(path, 303)
    assert isinstance(response, Response)  # noqa: S101 - Flask's own class, for the type checker
    return response
