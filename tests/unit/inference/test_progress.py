"""The progress bar: for terminals only."""

import io

from inference.progress import Progress


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO) -> str:
    progress = Progress(2, stream)
    for last in (False, True, True):
        progress.step(file_done=last)
    progress.close()
    return stream.getvalue()


def test_shows_files_and_slices_to_a_terminal() -> None:
    text = run(Terminal())
    assert "2/2 files, 3 slices" in text
    assert "#" * 30 in text
    assert text.endswith("\n")


def test_is_silent_into_a_file() -> None:
    assert run(io.StringIO()) == ""
