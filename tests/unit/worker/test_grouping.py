"""Which images belong together, and in which order."""

from dataclasses import replace
from typing import Any

from db.queries.intake import FileLine, PlannedStudy
from imaging.frames import DicomFacts, FrameGeometry, Identity, ImageInfo, Kind
from worker.grouping import FoundImage, plan
from worker.intake import _file_batches


def image(
    path: str, *, digest: str | None = None, frames: int = 1, dicom: DicomFacts | None = None, **more: Any
) -> FoundImage:
    info = ImageInfo(
        kind=Kind.DICOM if dicom else Kind.PNG,
        rows=10,
        columns=12,
        frames=frames,
        size_bytes=100,
        bits=8,
        colour=False,
        geometry=tuple(FrameGeometry() for _ in range(frames)),
        dicom=dicom,
    )
    digest = digest or path
    return FoundImage(FileLine(1, path, 100, digest, "accepted", "accepted"), digest, replace(info, **more))


def names(study: PlannedStudy) -> list[list[str]]:
    return [[file.line.path for file in series.files] for series in study.series]


def test_a_folder_is_a_study_and_plane_folders_are_its_series() -> None:
    studies = plan(
        [image("p/axial/1.png"), image("p/Coronal/1.png"), image("p/axial/2.png"), image("other/1.png")], "title"
    )
    by_title = {study.title: study for study in studies}
    assert set(by_title) == {"p", "other"}
    assert sorted(series.plane or "" for series in by_title["p"].series) == ["axial", "coronal"]
    assert {piece.plane for series in by_title["p"].series for file in series.files for piece in file.slices} == {
        "axial",
        "coronal",
    }
    assert by_title["other"].series[0].plane is None


def test_the_same_folder_is_the_same_study_wherever_it_lies() -> None:
    (first,) = plan([image("a/axial/1.png", digest="x"), image("a/axial/2.png", digest="y")], "t")
    (second,) = plan([image("b.zip/c/axial/2.png", digest="y"), image("b.zip/c/axial/1.png", digest="x")], "t")
    assert first.key == second.key
    assert first.series[0].key == second.series[0].key
    (third,) = plan([image("a/axial/1.png", digest="x")], "t")
    assert third.key != first.key


def test_two_folders_with_the_same_images_are_one_study() -> None:
    (study,) = plan([image("a/1.png", digest="x"), image("b/1.png", digest="x")], "t")
    assert sum(len(series.files) for series in study.series) == 2


def test_dicom_studies_go_by_uid_and_keep_identity_apart() -> None:
    facts = DicomFacts(study_instance_uid="1.2", series_instance_uid="1.2.3", series_number=4, modality="MR")
    who = Identity(patient_name="Roe^Jane", accession_number="A1", study_date="20260102", patient_birth_date="x")
    studies = plan(
        [
            image("one/a", dicom=facts, identity=who),
            image("two/b", dicom=facts, identity=who),
            image("one/c", dicom=replace(facts, study_instance_uid="9.9")),
        ],
        "t",
    )
    assert [study.key for study in studies] == ["dicom:1.2", "dicom:9.9"]
    assert names(studies[0]) == [["one/a", "two/b"]]
    assert studies[0].identity["patient_name"] == "Roe^Jane"
    assert studies[0].identity["accession_number"] == "A1"
    assert studies[0].identity["birth_date"] == "", "a birth date that is no date was kept"
    assert studies[0].study_date == "20260102"
    assert "Roe" not in studies[0].title


def order(images: list[FoundImage]) -> list[tuple[str, int]]:
    (study,) = plan(images, "t")
    slices = [
        (piece.sort_key, file.line.path, piece.frame_index)
        for series in study.series
        for file in series.files
        for piece in file.slices
    ]
    return [(path, frame) for _, path, frame in sorted(slices)]


def test_order_by_position_then_number_then_name() -> None:
    def at(path: str, position: float | None, number: int | None) -> FoundImage:
        facts = DicomFacts(study_instance_uid="1", series_instance_uid="2", instance_number=number)
        return image(path, dicom=facts, geometry=(FrameGeometry(position_mm=position),))

    assert order([at("a", 5.0, 1), at("b", -3.0, 2), at("c", 1.0, 3)]) == [("b", 0), ("c", 0), ("a", 0)]
    assert order([at("a", None, 3), at("b", 1.0, 1), at("c", 2.0, 2)]) == [("b", 0), ("c", 0), ("a", 0)]
    assert order([image("s/10.png"), image("s/9.png"), image("s/1.png")]) == [
        ("s/1.png", 0),
        ("s/9.png", 0),
        ("s/10.png", 0),
    ]


def test_frames_stay_in_the_order_of_their_file() -> None:
    facts = DicomFacts(study_instance_uid="1", series_instance_uid="2", instance_number=1)
    found = order([image("b", dicom=replace(facts, instance_number=2), frames=3), image("a", dicom=facts, frames=2)])
    assert found == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]


def test_absurd_numbers_and_long_texts_fit_the_columns() -> None:
    facts = DicomFacts(
        study_instance_uid="1",
        series_instance_uid="2",
        series_number=10**12,
        instance_number=10**12,
        study_description="d" * 999,
        series_description="s" * 999,
        modality="M" * 99,
    )
    (study,) = plan([image("x", dicom=facts)], "t")
    series = study.series[0]
    assert (series.number, series.files[0].instance_number) == (None, None)
    assert (len(study.description), len(series.description), len(series.modality)) == (200, 200, 16)


def test_batches_are_bounded_by_slices_too() -> None:
    facts = DicomFacts(study_instance_uid="1", series_instance_uid="2", instance_number=1)
    counts = [600, 600, 3000, 1, 1]
    (study,) = plan([image(f"f{place}", dicom=facts, frames=count) for place, count in enumerate(counts)], "t")
    batches = [[len(file.slices) for file in batch] for batch in _file_batches(study.series[0].files)]
    assert batches == [[600], [600], [3000], [1, 1]]
    assert list(_file_batches(())) == []


def test_a_series_says_its_sequence_and_its_distances() -> None:
    facts = DicomFacts(series_instance_uid="1.1", study_instance_uid="1", series_description="T1", contrast_agent=True)
    places = [FrameGeometry("axial", position, (0.5, 0.7)) for position in (-3.0, 12.0, 2.0, 7.0)]
    images = [image(f"{number}", dicom=facts, geometry=(place,)) for number, place in enumerate(places)]
    ((series,),) = [study.series for study in plan(images, "t")]
    assert series.plane == "axial"
    assert {name: series.facts[name] for name in ("sequence", "pixel_spacing_mm", "slice_spacing_mm")} == {
        "sequence": "T1+C",
        "pixel_spacing_mm": [0.5, 0.7],
        "slice_spacing_mm": 5.0,
    }
    assert sorted(piece.position_mm or 0 for file in series.files for piece in file.slices) == [-3, 2, 7, 12]


def test_a_localizer_has_no_plane_of_its_own() -> None:
    facts = DicomFacts(series_instance_uid="1.1", study_instance_uid="1", localizer=True)
    planes: list[Any] = ["axial", "coronal", "sagittal"]
    images = [
        image(plane, dicom=facts, geometry=(FrameGeometry(plane, float(place)),)) for place, plane in enumerate(planes)
    ]
    ((series,),) = [study.series for study in plan(images, "t")]
    assert series.plane == "localizer"
    assert {piece.plane for file in series.files for piece in file.slices} == {"localizer"}
    assert "slice_spacing_mm" not in series.facts, "its pictures lie across each other"


def test_pictures_say_nothing_of_sequence_and_distance() -> None:
    ((series,),) = [study.series for study in plan([image("a/1.png"), image("a/2.png")], "t")]
    assert series.facts == {}
