"""The table of results: columns, cells, and nothing half-written."""

import csv
import io
import stat
from pathlib import Path

import numpy as np
import pytest

from imaging.preprocess import Box
from inference.attention import Attention
from inference.guard import Abstention, Judgement
from inference.predictor import Prediction
from inference.results_csv import ResultsWriter, open_results, safe_cell

NAMES = ("glioma", "no_tumor")


def prediction(probability: float, abstention: Abstention | None = None) -> Prediction:
    return Prediction(
        class_name="glioma",
        probability=probability,
        probabilities={"glioma": probability, "no_tumor": 1 - probability},
        scores=(1.0, 0.0),
        heatmap=np.zeros((2, 2), np.float32),
        box=Box(0, 0, 2, 2),
        features=np.zeros(3, np.float32),
        blank=False,
        judgement=Judgement(abstention, {}),
        attention=Attention(1.0, None),
    )


def test_columns_and_rows() -> None:
    stream = io.StringIO()
    writer = ResultsWriter(stream, NAMES)
    writer.write("a/b.dcm#3", prediction(0.75))
    writer.write("photo.png", prediction(0.75, Abstention.UNLIKE_TRAINING))
    writer.write('odd, "name"\n.png', ValueError("It is broken; send it again."))

    rows = list(csv.reader(io.StringIO(stream.getvalue())))
    assert rows == [
        ["path", "prediction", "probability", "probability_glioma", "probability_no_tumor", "abstained", "error"],
        ["a/b.dcm#3", "glioma", "0.75", "0.75", "0.25", "", ""],
        ["photo.png", "glioma", "0.75", "0.75", "0.25", "unlike_training", ""],
        ['odd, "name"\n.png', "", "", "", "", "", "It is broken; send it again."],
    ]


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-12, 1.0, 0.0, 0.99999994])
def test_numbers_read_back_as_the_same_float32_without_exponent(value: float) -> None:
    stream = io.StringIO()
    ResultsWriter(stream, NAMES).write("x", prediction(float(np.float32(value))))

    cell = stream.getvalue().splitlines()[1].split(",")[2]
    assert np.float32(cell) == np.float32(value)
    assert "e" not in cell


@pytest.mark.parametrize("text", ["=cmd|'/C calc'!A0", "+1", "-1.png", "@SUM(A1)", "\tx", "\rx"])
def test_formulas_are_made_text(text: str) -> None:
    assert safe_cell(text) == "'" + text


def test_ordinary_text_stays() -> None:
    assert safe_cell("scans/a=b-c.png") == "scans/a=b-c.png"


def test_a_table_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "results.csv"
    target.write_text("old")

    def interrupted() -> None:
        with open_results(str(target)) as stream:
            stream.write("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        interrupted()
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.csv"]

    with open_results(str(target)) as stream:
        stream.write("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) & 0o600 == 0o600


def test_a_link_is_kept(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "results.csv"
    link.symlink_to(tmp_path / "there" / "real.csv")
    with open_results(str(link)) as stream:
        stream.write("x")
    assert link.is_symlink()
    assert (tmp_path / "there" / "real.csv").read_text() == "x"


def test_folders_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"No such file or directory \(folder .*gone\)"),
        open_results(str(tmp_path / "gone" / "results.csv")),
    ):
        pass
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"), open_results(str(tmp_path)):
        pass
