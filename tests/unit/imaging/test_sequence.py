"""Sequences are guessed by the words of the description, then by the times; otherwise not at all."""

from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from imaging.frames import DicomFacts
from imaging.limits import Limits
from imaging.reading import inspect
from imaging.sequence import guess
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes


@pytest.mark.parametrize(
    ("description", "contrast_agent", "expected"),
    [
        ("t1_se_tra", False, "T1"),
        ("AX T1 SE", True, "T1+C"),
        ("AX T1 PRE GD", True, "T1"),
        ("Ax T1 -C", True, "T1"),
        ("T1+C COR", False, "T1+C"),
        ("t1_mprage_sag_p2_iso_post", False, "T1+C"),
        ("T1 TRA TANPA KONTRAS", False, "T1"),
        ("T1 TRA KONTRAS", False, "T1+C"),
        ("MPRAGE", False, "T1"),
        ("t2_tse_cor", True, "T2"),
        ("T2 FLAIR AX", False, "FLAIR"),
        ("t2_tirm_tra_dark-fluid", True, "FLAIR+C"),
        ("T2* GRE", False, "SWI"),
        ("SWI_Images", False, "SWI"),
        ("ep2d_diff_3scan_trace_ADC", False, "DWI"),
        ("DWI b1000", False, "DWI"),
        ("3D TOF MRA", False, "MRA"),
        ("PD TSE", False, "PD"),
        ("T2 STIR", False, "STIR"),
        ("Survey", False, None),
        ("Art1st at21", False, None),
        (None, True, None),
    ],
)
def test_the_words_of_a_technician(description: str | None, contrast_agent: bool, expected: str | None) -> None:
    assert guess(DicomFacts(series_description=description, contrast_agent=contrast_agent)) == expected


@pytest.mark.parametrize(
    ("times", "scanning", "expected"),
    [
        ((12, 500, None), ("SE",), "T1"),
        ((100, 4500, None), ("SE",), "T2"),
        ((20, 2500, None), ("SE",), "PD"),
        ((120, 9000, 2500), ("SE", "IR"), "FLAIR"),
        ((3, 1900, 900), ("GR", "IR"), "T1"),
        ((4, 20, None), ("GR",), "T1"),
        ((30, 50, None), ("GR",), None),
        ((90, 6000, None), ("EP", "SE"), None),
        ((55, 2500, None), ("SE",), None),
        ((0, 500, None), ("SE",), None),
        ((None, 500, None), ("SE",), None),
    ],
)
def test_the_times_of_the_acquisition(
    times: tuple[float | None, ...], scanning: tuple[str, ...], expected: str | None
) -> None:
    echo, repetition, inversion = times
    facts = DicomFacts(
        echo_time_ms=echo, repetition_time_ms=repetition, inversion_time_ms=inversion, scanning_sequence=scanning
    )
    assert guess(facts) == expected
    if expected == "T1":
        assert guess(DicomFacts(**{**_fields(facts), "contrast_agent": True})) == "T1+C"


def _fields(facts: DicomFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in facts.__slots__}


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def test_an_enhanced_object_says_it_in_its_functional_groups() -> None:
    shared = item(
        MRTimingAndRelatedParametersSequence=Sequence([item(RepetitionTime=9000)]),
        MREchoSequence=Sequence([item(EffectiveEchoTime=120)]),
        MRModifierSequence=Sequence([item(InversionTimes=[2500])]),
        PixelMeasuresSequence=Sequence([item(SliceThickness=5, PixelSpacing=[1, 1])]),
    )
    ds = mr(ramp(), SharedFunctionalGroupsSequence=Sequence([shared]), EchoPulseSequence="SPIN")
    facts = inspect(to_bytes(ds), Limits()).dicom
    assert facts is not None
    assert (facts.echo_time_ms, facts.repetition_time_ms, facts.inversion_time_ms) == (120, 9000, 2500)
    assert (facts.scanning_sequence, facts.slice_thickness_mm) == (("SE",), 5)
    assert guess(facts) == "FLAIR"
