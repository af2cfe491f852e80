"""The study rule, on cases worked by hand (the same as in docs/study-rule.md)."""

from db.queries.summaries import Finding, Tally, summarise


def votes(*items: tuple[str, float], plane: str | None = "axial") -> list[Tally]:
    return [Tally.of_slice(plane, name, probability) for name, probability in items]


def test_slices_without_an_answer_count_for_no_class_and_forbid_a_negative() -> None:
    clean = votes(("no_tumor", 0.9), ("no_tumor", 0.8))
    silent = [Tally.of_slice("axial", name, 0.99, answered=False) for name in ("glioma", "no_tumor")]
    summary = summarise([*clean, *silent])
    assert (summary.finding, summary.leading_class, summary.is_complete) == (Finding.UNCERTAIN, None, False)
    assert (summary.analysed, summary.abstained, summary.total) == (2, 2, 4)
    assert [item.class_name for item in summary.support] == ["no_tumor"]
    assert summarise(silent).finding is Finding.UNCERTAIN
    assert summarise([*votes(("glioma", 0.9)), *silent]).finding is Finding.TUMOUR


def test_one_positive_slice_is_never_averaged_away() -> None:
    summary = summarise(votes(*[("no_tumor", 0.99)] * 40, ("glioma", 0.51)))
    assert (summary.finding, summary.leading_class) == (Finding.TUMOUR, "glioma")
    assert {item.class_name: item.slices for item in summary.support} == {"no_tumor": 40, "glioma": 1}


def test_many_slices_outweigh_a_single_peak_and_both_classes_are_named() -> None:
    # 0.8 + 0.7 + 0.9 = 2.4 for meningioma against 0.99 for glioma.
    summary = summarise(votes(("meningioma", 0.8), ("meningioma", 0.7), ("meningioma", 0.9), ("glioma", 0.99)))
    assert (summary.leading_class, summary.other_classes) == ("meningioma", ("glioma",))


def test_slices_below_the_threshold_add_no_evidence() -> None:
    # Three weak slices (0.45 each) are no finding; one firm slice is.
    summary = summarise(votes(*[("glioma", 0.45)] * 3, ("pituitary", 0.6)))
    assert (summary.finding, summary.leading_class, summary.other_classes) == (Finding.TUMOUR, "pituitary", ())


def test_a_weak_hint_is_uncertain_not_negative() -> None:
    assert summarise(votes(("no_tumor", 0.9), ("glioma", 0.40))).finding is Finding.UNCERTAIN


def test_negative_needs_every_slice() -> None:
    clean = votes(("no_tumor", 0.9), ("no_tumor", 0.8))
    assert summarise(clean).finding is Finding.NO_TUMOUR
    assert summarise(clean, failed=1).finding is Finding.INCOMPLETE
    assert summarise(clean, waiting=1).finding is Finding.INCOMPLETE


def test_slices_that_were_left_out_are_counted_and_never_read_as_negative() -> None:
    clean = votes(("no_tumor", 0.9), ("no_tumor", 0.8))
    summary = summarise(clean, left_out={"plane_not_trained": 3, "scout": 1})
    assert (summary.finding, summary.total, summary.not_classified) == (Finding.INCOMPLETE, 6, 4)
    assert not summary.is_complete  # not everything was looked at
    assert not summary.is_missing_some  # but nothing is missing that was to be
    assert summarise([], left_out={"scout": 2}).finding is Finding.NONE


def test_a_finding_stands_even_when_slices_are_missing() -> None:
    summary = summarise(votes(("glioma", 0.9)), failed=3, waiting=2)
    assert (summary.finding, summary.analysed, summary.total, summary.is_complete) == (Finding.TUMOUR, 1, 6, False)


def test_without_results_nothing_is_said() -> None:
    summary = summarise([], failed=2)
    assert (summary.finding, summary.leading_class, summary.is_complete) == (Finding.NONE, None, False)


def test_a_label_set_without_a_negative_class_is_always_a_finding_or_uncertain() -> None:
    assert summarise(votes(("glioma", 0.7), ("meningioma", 0.6))).finding is Finding.TUMOUR


def test_slices_are_counted_by_plane() -> None:
    summary = summarise([*votes(("glioma", 0.9)), *votes(("no_tumor", 0.9), ("glioma", 0.7), plane=None)])
    assert summary.planes == {"axial": {"glioma": 1}, "unknown": {"no_tumor": 1, "glioma": 1}}
