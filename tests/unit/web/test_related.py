"""Reading multipart/related bodies."""

import io

import pytest

from web.related import Malformed, Parts


class Slowly(io.BytesIO):
    """Gives so many bytes at a time, whatever is asked for."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self._step = step

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._step)


PARTS = [b"first", b"", b"\r\n--b\r\n-", b"x" * 1000 + b"\r\n", b"\r\n--boundar"]
BODY = (
    b"a preamble\r\n"
    + b"".join(b"--boundary \t\r\nContent-Type: application/dicom\r\nX: y:z\r\n\r\n" + part + b"\r\n" for part in PARTS)
    + b"--boundary--\r\nan epilogue"
)


def read(body: bytes, step: int = 64, boundary: str = "boundary") -> list[tuple[dict[str, str], bytes]]:
    return [(headers, b"".join(pieces)) for headers, pieces in Parts(Slowly(body, step), boundary)]


@pytest.mark.parametrize("step", [1, 2, 7, 11, 4096])
def test_parts_come_out_as_they_went_in(step: int) -> None:
    found = read(BODY, step)
    assert [content for _, content in found] == PARTS
    assert found[0][0] == {"content-type": "application/dicom", "x": "y:z"}
    assert read(b"--boundary\r\n\r\n--boundary--", step) == [({}, b"")], "an empty part whose line breaks are shared"
    assert read(b"--boundary--", step) == []
    long = "0" * 73  # Orthanc's
    assert read(BODY.replace(b"--boundary", b"--" + long.encode()), step, long)[0][1] == b"first"


def test_what_the_caller_leaves_is_passed_over() -> None:
    assert sum(1 for _ in Parts(Slowly(BODY, 5), "boundary")) == len(PARTS)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "ends before its last boundary"),
        (b"no boundary at all", "ends before its last boundary"),
        (b"--boundary\r\nContent-Type: x\r\n\r\ndata", "ends before its last boundary"),
        (b"--boundary\r\nno colon\r\n\r\ndata\r\n--boundary--", "has no colon"),
        (b"--boundaryX\r\n\r\ndata\r\n--boundary--", "behind a boundary"),
        (b"--boundary\r\n" + b"a: b\r\n" * 5000 + b"\r\n--boundary--", "too many headers"),
        (b"--boundary\r\n" + b"a" * 70_000 + b"\r\n\r\n--boundary--", "too long"),
    ],
)
def test_malformed(body: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        read(body, 4096)
    with pytest.raises(Malformed, match="boundary is missing or malformed"):
        read(body, boundary="")
