"""The submit client: sends studies to a NeuroSight server, waits, and fetches the results.

Owns everything a department needs to send from a script, with Python's standard library alone (3.11 or newer): copy
this folder anywhere and run `python -m client submit FOLDER --url URL`. Imports nothing of the rest of NeuroSight.
"""

from client.api import Client, Refused, Unreachable
from client.files import LocalFile, gather

__all__ = ["Client", "LocalFile", "Refused", "Unreachable", "gather"]
