"""Whatever a file does to the process that reads it, the caller gets one plain reason and goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset

from imaging import decoder_processes, decoders
from imaging import decoder_wire as wire
from imaging.decoders import Decoders, DecodersUnavailable
from imaging.frames import DicomFacts, Frame, FrameGeometry, Identity, ImageInfo, Kind
from imaging.limits import MIB, Allowance, Limits
from imaging.outcomes import Outcome, Reason, RejectedFile
from imaging.reading import inspect, read_frame
from tests import deadly_decoder as deadly
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes

LIMITS = Limits()
ALLOWANCE = Allowance(memory_bytes=256 * MIB, cpu_s=1, wall_s=2.0)
ROOT = Path(__file__).parents[3]


def picture(folder: Path, rows: int = 40) -> Path:
    path = folder / f"{rows}.png"
    done = cv2.imwrite(str(path), np.arange(rows * 30, dtype=np.uint8).reshape(rows, 30))
    assert done
    return path


@pytest.fixture(scope="module")
def pool() -> Iterator[Decoders]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_processes, "PROGRAM", "tests.deadly_decoder")
        with Decoders(LIMITS, ALLOWANCE, lanes=2) as made:
            yield made


def processes(pool: Decoders) -> set[int]:
    """The host and its decoders."""
    host = pool._hosts.current()
    found = {host.pid}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == host.pid and fields[0] != "Z":
            found.add(int(path.parent.name))
    return found


def ended(pids: set[int], timeout_s: float = 10.0) -> bool:
    """Whether all of these end soon (a zombie has ended)."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not any(_runs(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_files_are_read_as_without_a_pool(pool: Decoders, tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    values = np.stack([ramp(), ramp()[::-1]])
    path.write_bytes(
        to_bytes(
            mr(
                values,
                WindowCenter=1000,
                WindowWidth=900,
                PatientName="Müller^Ä",
                SpecificCharacterSet="ISO_IR 100",
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                PixelSpacing=[0.5, 0.25],
                EchoTime=12,
            )
        )
    )
    assert pool.inspect(path) == inspect(path, LIMITS)
    several = pool.read_pixels([(path, 1), (path, 2), (path, 0), (tmp_path / "none", 0)])
    for place, index in ((0, 1), (2, 0)):
        np.testing.assert_array_equal(several[place], read_frame(path, index, LIMITS).pixels)
    assert [getattr(several[place], "reason", None) for place in (1, 3)] == [Reason.FRAME_MISSING, Reason.FILE_MISSING]
    for index in (0, 1):
        expected, found = read_frame(path, index, LIMITS), pool.read_frame(path, index)
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert found.pixels.dtype == np.float32
        assert found.pixels.flags.owndata, "a copy: the decoder's memory is used again"
        facts = ("index", "plane", "position_mm", "spacing_mm", "intensity")
        assert [getattr(found, name) for name in facts] == [getattr(expected, name) for name in facts]


def test_a_file_of_many_frames_is_opened_once_and_a_changed_one_again(tmp_path: Path) -> None:
    count = 300
    ds = mr(np.stack([np.full((8, 8), number, np.uint16) for number in range(count)]), WindowCenter=2048)
    ds.WindowWidth = 4096
    ds.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(count)]
    path = tmp_path / "many.dcm"
    path.write_bytes(to_bytes(ds))
    with Decoders(LIMITS, Allowance(), lanes=1) as own:
        own.inspect(path)
        started = time.monotonic()
        read_frame(path, 0, LIMITS)
        alone_s = time.monotonic() - started
        started = time.monotonic()
        found = own.read_pixels([(path, index) for index in range(count)])
        assert time.monotonic() - started < max(1.0, 0.5 * count * alone_s)
        values = [round(float(one[0, 0]) * 4095) for one in found if not isinstance(one, RejectedFile)]
        assert values == list(range(count))
        assert isinstance(own.read_pixels([(path, count), (path, 3)])[1], np.ndarray), "a frame too many harms no other"
        path.write_bytes(to_bytes(mr(ramp(), WindowCenter=2048, WindowWidth=4096)))
        np.testing.assert_array_equal(own.read_frame(path, 0).pixels, read_frame(path, 0, LIMITS).pixels)


def test_refusals_come_out_with_their_facts(pool: Decoders, tmp_path: Path) -> None:
    with pytest.raises(RejectedFile, match="Frame 7 was asked for, but this file has 1"):
        pool.read_frame(picture(tmp_path), 7)
    with pytest.raises(RejectedFile, match="There is no file or folder of this name"):
        pool.inspect(tmp_path / "nowhere.png")
    (tmp_path / "text").write_text("no picture")
    with pytest.raises(RejectedFile, match="This is a text file"):
        pool.inspect(tmp_path / "text")


@pytest.mark.parametrize(
    ("rows", "reason", "words"),
    [
        (deadly.KILLED, Reason.DECODER_CRASHED, r"crashed on this one \(SIGKILL\)"),
        (deadly.SEGFAULT, Reason.DECODER_CRASHED, r"crashed on this one \(SIGSEGV\)"),
        (deadly.ABORTS, Reason.DECODER_CRASHED, r"crashed on this one \(SIGABRT\)"),
        (deadly.EXITS, Reason.DECODER_CRASHED, r"crashed on this one \(exit status 3\)"),
        (deadly.MISTAKE, Reason.DECODER_CRASHED, r"crashed on this one \(ZeroDivisionError\)"),
        (deadly.GARBLED, Reason.DECODER_CRASHED, r"crashed on this one \(a garbled answer\)"),
        (deadly.NAN, Reason.DECODER_CRASHED, r"crashed on this one \(a garbled answer\)"),
        (deadly.HANGS, Reason.DECODER_TIME, r"longer than the 2\.0 seconds allowed"),
        (deadly.SPINS, Reason.DECODER_TIME, r"longer than the (1|2\.0) seconds allowed"),
        (deadly.BOMB, Reason.DECODER_MEMORY, "more than the 268435456 bytes of memory allowed"),
    ],
)
def test_a_file_that_kills_its_decoder_is_refused_alone(
    pool: Decoders, tmp_path: Path, rows: int, reason: Reason, words: str
) -> None:
    neighbour = picture(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ThreadPoolExecutor(3) as threads:
        # Both lanes are busy with neighbours, before and after: the lane that lost its decoder gets a new one.
        neighbours = [threads.submit(pool.read_frame, neighbour, 0) for _ in range(10)]
        with pytest.raises(RejectedFile, match=words) as caught:
            pool.read_frame(picture(tmp_path, rows), 0)
        neighbours += [threads.submit(pool.read_frame, neighbour, 0) for _ in range(10)]
        assert all(one.result().pixels.shape == (40, 30) for one in neighbours)
    assert caught.value.reason is reason
    assert caught.value.outcome in (Outcome.UNREADABLE, Outcome.OVER_LIMIT)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024, "the bomb is not ours"


def test_of_several_files_only_the_deadly_ones_are_refused(pool: Decoders, tmp_path: Path) -> None:
    rows = [40, deadly.KILLED, 41, deadly.BOMB, deadly.MISTAKE, 42, deadly.GARBLED, deadly.SEGFAULT, *range(43, 60)]
    answers = pool.read_pixels([(picture(tmp_path, one), 0) for one in rows])
    found = [one.reason if isinstance(one, RejectedFile) else one.shape[0] for one in answers]
    crashed = Reason.DECODER_CRASHED
    assert found == [40, crashed, 41, Reason.DECODER_MEMORY, crashed, 42, deadly.GARBLED, crashed, *range(43, 60)]


def test_frames_for_which_there_is_no_room_are_asked_for_again(tmp_path: Path) -> None:
    paths = [picture(tmp_path, rows) for rows in (30, 60, 20, 50, 10, 40)]
    with Decoders(Limits(max_pixels=60 * 30), ALLOWANCE, lanes=1) as own:
        answers = own.read_pixels([(path, 0) for path in paths])
    for path, found in zip(paths, answers, strict=True):
        np.testing.assert_array_equal(found, read_frame(path, 0, LIMITS).pixels)


def test_a_decoder_that_neither_answers_nor_ends_is_ended(
    pool: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "GRACE_S", 0.1)
    pool.inspect(picture(tmp_path))
    with Decoders(LIMITS, Allowance(wall_s=0.5), lanes=1) as own:
        monkeypatch.setattr(decoder_processes, "PROGRAM", "tests.deadly_decoder")
        with pytest.raises(RejectedFile, match="seconds allowed") as caught:
            own.read_frame(picture(tmp_path, deadly.FROZEN), 0)
        assert caught.value.reason is Reason.DECODER_TIME
        assert own.read_frame(picture(tmp_path), 0).pixels.shape == (40, 30)


def test_a_decoder_that_died_while_idle_is_no_fault_of_the_next_file(pool: Decoders, tmp_path: Path) -> None:
    path = picture(tmp_path)
    pool.read_frame(path, 0)
    host = pool._hosts.current().pid
    for pid in processes(pool) - {host}:
        os.kill(pid, signal.SIGKILL)
    assert pool.read_frame(path, 0).pixels.shape == (40, 30)
    orphans = processes(pool) - {host}
    os.kill(host, signal.SIGKILL)
    assert ended(orphans), "decoders end with their host"
    assert pool.read_frame(path, 0).pixels.shape == (40, 30)
    assert pool._hosts.current().pid != host


def test_decoders_are_replaced_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "FILES_A_LIFE", 3)
    path = picture(tmp_path)
    seen: set[int] = set()
    with Decoders(LIMITS, ALLOWANCE, lanes=1) as own:
        for _ in range(7):
            own.inspect(path)
            seen |= processes(own)
        assert len(seen) == 4, "a host and three decoders one after another"
        assert len(processes(own)) == 2
    assert ended(seen)


def test_decoders_that_cannot_start_are_no_fault_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_processes, "PROGRAM", "tests.no_such_program")
    with (
        Decoders(LIMITS, ALLOWANCE, lanes=1) as own,
        pytest.raises(DecodersUnavailable, match="do not start or do not stay"),
    ):
        own.inspect(picture(tmp_path))
    with pytest.raises(DecodersUnavailable, match="are closed"):
        own.inspect(picture(tmp_path))


def test_decoders_know_no_secrets_and_write_no_files(pool: Decoders, tmp_path: Path) -> None:
    pool.read_frame(picture(tmp_path), 0)
    host = pool._hosts.current().pid
    for pid in processes(pool):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"NEUROSIGHT" not in environment
        assert {item.split(b"=")[0] for item in environment.split(b"\0") if item} <= {
            name.encode() for name in decoder_processes.environment()
        }
    for pid in processes(pool) - {host}:
        limits = Path(f"/proc/{pid}/limits").read_text()
        for name in ("Max core file size", "Max file size"):
            line = next(line for line in limits.splitlines() if line.startswith(name))
            assert line.split()[-3:-1] == ["0", "0"], line


PROGRAM = """
import sys, threading
from pathlib import Path
from imaging import decoder_processes, decoders
from imaging.limits import Allowance, Limits
decoder_processes.PROGRAM = "tests.deadly_decoder"
pool = decoders.Decoders(Limits(), Allowance(), lanes=2)
pool.inspect(Path(sys.argv[1]))
print(pool._hosts.current().pid, flush=True)
pool.read_frame(Path(sys.argv[1]), 0)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_owner_dies_in_the_middle_of_a_file(tmp_path: Path, how: signal.Signals) -> None:
    path = picture(tmp_path, deadly.HANGS)
    with subprocess.Popen([sys.executable, "-c", PROGRAM, path], cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        host = int(owner.stdout.readline())
        time.sleep(0.2)
        children = {host} | {int(pid) for pid in Path(f"/proc/{host}/task/{host}/children").read_text().split()}
        assert len(children) == 2
        owner.send_signal(how)
        assert ended(children, 5.0), "the file would have taken ten minutes"


INFO = ImageInfo(
    kind=Kind.DICOM,
    rows=2,
    columns=3,
    frames=1,
    size_bytes=10,
    bits=16,
    colour=False,
    geometry=(FrameGeometry("axial", 1.5, (0.5, 1.0)),),
    dicom=DicomFacts(study_instance_uid="1.2", image_type=("ORIGINAL", "PRIMARY")),
    identity=Identity(patient_name="Name"),
)


def body_of(reply: bytes) -> bytes:
    return reply[wire.REPLY.size :]


def test_a_description_comes_out_as_it_went_in() -> None:
    assert wire.info_of(body_of(wire.info_reply(INFO))) == INFO


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"rows":2', b'"rows":"2"'),
        (b'"rows":2', b'"rows":2.0'),
        (b'"rows":2', b'"rows":true'),
        (b'"rows":2,', b""),
        (b'"rows":2', b'"rows":2,"more":1'),
        (b'"kind":"dicom"', b'"kind":"exe"'),
        (b'"axial"', b'"sideways"'),
        (b"1.5", b"NaN"),
        (b"[0.5,1.0]", b"[0.5]"),
        (b'"geometry":[', b'"geometry":[[null,null,null],'),
        (b'"image_type":[', b'"image_type":[7,'),
        (b'"patient_name":"Name"', b'"patient_name":["Name"]'),
        (b"{", b"["),
        (b"{", b"[" * 100_000),
    ],
)
def test_a_description_is_not_believed(old: bytes, new: bytes) -> None:
    body = body_of(wire.info_reply(INFO))
    assert old in body
    with pytest.raises(wire.WireError, match="repl"):
        wire.info_of(body.replace(old, new, 1))


@pytest.mark.parametrize(
    "body",
    [
        b'["no_such_reason",{}]',
        b'["file_bytes",{}]',
        b'["file_bytes",{"found":[1],"limit":1}]',
        b'["empty_file",{"reason":"x"}]',
        b'["empty_file"]',
        b"null",
    ],
)
def test_a_refusal_is_not_believed(body: bytes) -> None:
    with pytest.raises(wire.WireError, match=r"repl|refusal"):
        wire.rejection_of(body)


def test_a_frame_of_a_wrong_form_is_not_believed() -> None:
    pixels = np.zeros((2, 3), np.float32)
    body = body_of(wire.frame_reply(Frame(pixels, spacing_mm=(1.0, 1.0))))
    assert wire.frame_of(body, pixels).spacing_mm == (1.0, 1.0)
    for changed in (b"[]", body.replace(b"full_range", b"none"), body.replace(b"[1.0,1.0]", b"1")):
        with pytest.raises(wire.WireError, match="repl"):
            wire.frame_of(changed, pixels)
