"""Daily use: `make up`.

Owns what is said once the system is ready: the address, and the first admin's one-time password on a new system.
Everything else is the launcher's.
"""

from pathlib import Path

from ops import accounts, launcher
from ops.console import Console
from ops.local import Local
from ops.supervisor import Supervisor


def up(*, quiet: bool, procfile: Path | None = None) -> int:
    """Starts everything and stays until told to stop; returns the exit status."""

    def before(state: Local, console: Console) -> None:
        admin = accounts.first_admin(state.settings)
        if admin is not None:
            name, password = admin
            console.say(
                f"first login: {console.bold(name)}, one-time password {console.bold(password)} (shown this once)"
            )
        console.say(f"logs: {state.settings.var_dir / 'log'}; stop with Ctrl-C; check with `make doctor`")

    def ready(state: Local, console: Console, _supervisor: Supervisor) -> None:
        console.say(f"open {console.bold(state.web_url)} (research use only, not for diagnosis)")

    return launcher.launch(ready, quiet=quiet, procfile=procfile, before=before)
