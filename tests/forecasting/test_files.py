"""Tables in and out: what CSV may hold, and files that are whole or not there."""

import gzip
import io
import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from tsforecast.exceptions import DataError
from tsforecast.forecasting import files


def read(text, tmp_path, name="in.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return files.read_table(str(path), id_col="unique_id", time_col="ds")


def test_ids_stay_text_and_time_is_read(tmp_path):
    df = read("unique_id,ds,y\n007,2024-01-31,1\nNA,2024-02-29,2.5\n", tmp_path)
    assert df["unique_id"].tolist() == ["007", "NA"]
    assert df["ds"].tolist() == [pd.Timestamp("2024-01-31"), pd.Timestamp("2024-02-29")]
    assert df["y"].tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1", "2"], [1, 2]),
        (["1949", "1950"], [1949, 1950]),
        (["-3", "-2"], [-3, -2]),
        (["20240131", "20240229"], [pd.Timestamp("2024-01-31"), pd.Timestamp("2024-02-29")]),
        (["2024-01", "2024-02"], [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-02-01")]),
        (
            ["2024-01-01 12:00", " 2024-01-01T13:00:30.5"],
            [pd.Timestamp("2024-01-01 12:00"), pd.Timestamp("2024-01-01 13:00:30.5")],
        ),
        (
            ["2024-01-01T12:00Z", "2024-01-01T13:00Z"],
            [pd.Timestamp("2024-01-01 12:00Z"), pd.Timestamp("2024-01-01 13:00Z")],
        ),
        (
            ["2024-01-01T12+02:00", "2024-01-01T13:00+02:00"],
            [pd.Timestamp("2024-01-01 10:00Z"), pd.Timestamp("2024-01-01 11:00Z")],
        ),
        (  # an hour apart, over the change to summer time
            ["2024-03-31T01:00+01:00", "2024-03-31 03:00+02:00"],
            [pd.Timestamp("2024-03-31 00:00Z"), pd.Timestamp("2024-03-31 01:00Z")],
        ),
        (  # days of a calendar, one of which has 23 hours
            ["2024-03-31 00:00:00+01:00", "2024-04-01 00:00:00+02:00"],
            [pd.Timestamp("2024-03-31"), pd.Timestamp("2024-04-01")],
        ),
        (["201512", "201513"], [201512, 201513]),
    ],
)
def test_time_as_text(tmp_path, texts, expected):
    df = read("ds,y\n" + "".join(f"{t},1\n" for t in texts), tmp_path)
    assert df["ds"].tolist() == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ds,y\n2024-01-01,1\n03.02.2024,2\n", "line 3.*'03.02.2024'"),
        ("ds,y\n01/02/2024,1\n", "line 2.*'01/02/2024'"),
        ("ds,y\n2024-01-01,1\n,2\n", r"line 3.*''"),
        ("ds,y\n2024-01-01,1\n7,2\n", "line 3.*'7'|line 2"),
        ("ds,y\n2024-02-30,1\n", "does not exist"),
        ("ds,y\n2024-03-31T01:00+01:00,1\n2024-03-31T03:00,1\n", "line 3.*with a UTC offset, or none"),
        ("ds,y\n2024-03-31T01:00,1\n2024-03-31T03:00Z,1\n", "line 3.*with a UTC offset, or none"),
        ("ds,y\n201511,1\n201512,2\n201601,3\n", "line 2.*'201511'.*year and month.*2015-11-01"),
        ("", r"in\.csv is empty; the first line must name the columns"),
        ("ds;y\n2024-01-01;1,5\n", r"in\.csv: the columns are separated by ';' and not by commas"),
        ("ds\ty\n2024-01-01\t1\n", r"separated by '\\t'"),
        ("a,b\n1,2,3\n1,2,3,4,5\n", "cannot be read as csv"),
        (b"\xff\xfe\x00ds,y\n", r"in\.csv is not UTF-8 \(invalid start byte\); save it in that"),
        ("unique_id,ds,y\n\u00e9,2024-01-01,1\n".encode("latin1"), "is not UTF-8"),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read(text, tmp_path)


def test_an_empty_id_is_missing(tmp_path):
    assert read("unique_id,ds,y\n,1,1\na,2,1\n", tmp_path)["unique_id"].isna().tolist() == [True, False]


@pytest.mark.parametrize("dtype", [object, "str", "string"])
def test_text_dates_in_parquet_are_read_as_in_csv(tmp_path, dtype):
    path = str(tmp_path / "in.parquet")
    pd.DataFrame({"ds": pd.Series(["2024-01-31", "2024-02-29"], dtype=dtype), "y": 1.0}).to_parquet(path)
    df = files.read_table(path, id_col="unique_id", time_col="ds")
    assert df["ds"].tolist() == [pd.Timestamp("2024-01-31"), pd.Timestamp("2024-02-29")]
    pd.DataFrame({"ds": pd.Series(["2024-01-31", "31/01/2024", None], dtype=dtype), "y": 1.0}).to_parquet(path)
    with pytest.raises(DataError, match=r"in\.parquet, row 2: .*'31/01/2024'"):
        files.read_table(path, id_col="unique_id", time_col="ds")


@pytest.mark.parametrize("freq", ["h", "D", pytest.param("MS", id="months")])
def test_stamps_with_a_zone_that_pandas_wrote(tmp_path, freq):
    """Over both changes of the clocks; hours are the same instants, days and months the same dates."""
    stamps = pd.date_range("2024-03-01", periods=6000 if freq == "h" else 12, freq=freq, tz="Europe/Berlin")
    path = str(tmp_path / "in.csv")
    files.write_table(pd.DataFrame({"ds": stamps, "y": 1.0}), path)
    back = files.read_table(path, id_col="unique_id", time_col="ds")["ds"]
    assert back.tolist() == (stamps if freq != "MS" else stamps.tz_localize(None)).tolist()


def test_urls_are_not_fetched(monkeypatch):
    monkeypatch.setattr("socket.socket", lambda *_: pytest.fail("went to the network"))
    for url in ("http://localhost/in.csv", "HTTPS://localhost/in.parquet", "s3://a/in.csv", "file:///tmp/in.csv"):
        with pytest.raises(DataError, match="is a URL"):
            files.read_table(url, id_col="unique_id", time_col="ds")


def test_missing_and_misnamed_files(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.csv: there is no such file"):
        files.read_table(str(tmp_path / "nothing.csv"), id_col="a", time_col="b")
    with pytest.raises(DataError, match=r"without \.gz"):
        files.read_table(str(tmp_path / "table.parquet.gz"), id_col="a", time_col="b")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv cannot be read: Is a directory"):
        files.read_table(str(tmp_path / "folder.csv"), id_col="a", time_col="b")
    with pytest.raises(DataError, match="--format"):
        files.read_table(str(tmp_path / "table.xlsx"), id_col="a", time_col="b")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read("ds,y\n1,2\n", tmp_path, "in.parquet")


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.csv.gz", "out.csv.xz", "out.csv.bz2"])
def test_round_trip(tmp_path, name):
    df = pd.DataFrame(
        {"unique_id": ["a", "b"], "ds": pd.to_datetime(["2024-01-01", "2024-02-01"]), "y": [1 / 3, 1e-300]}
    )
    files.write_table(df, str(tmp_path / name))
    back = files.read_table(str(tmp_path / name), id_col="unique_id", time_col="ds")
    assert back["y"].tolist() == df["y"].tolist()
    assert back["ds"].tolist() == df["ds"].tolist()
    assert back["unique_id"].tolist() == ["a", "b"]
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_the_same_table_is_the_same_compressed_file(tmp_path):
    df = pd.DataFrame({"y": [1.0]})
    assert files.encode_table(df, "csv", ".gz") == files.encode_table(df, "csv", ".gz")
    assert gzip.decompress(files.encode_table(df, "csv", ".gz")) == b"y\n1.0\n"


def test_standard_input_and_output(monkeypatch, capfdbinary):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ds,y\n1,2\n")))
    df = files.read_table("-", id_col="unique_id", time_col="ds")
    files.write_table(df, "-")
    assert capfdbinary.readouterr().out == b"ds,y\n1,2\n"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "out.csv"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_table(pd.DataFrame({"y": np.arange(3)}), str(path))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_what_cannot_be_written_is_told_before_the_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder"):
        files.check_output(str(tmp_path / "no" / "out.csv"), None)
    with pytest.raises(DataError, match="--output-format"):
        files.check_output(str(tmp_path / "out"), None)
    for name in ("out.parquet.gz", "out.csv.zst"):
        with pytest.raises(DataError, match=name):
            files.check_output(str(tmp_path / name), None)
    with pytest.raises(DataError, match="zip"):
        files.encode_table(pd.DataFrame({"y": [1]}), "csv", ".zip")
    files.check_output("-", None)
    files.check_output(str(tmp_path / "out"), "csv")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_a_whole_file(tmp_path):
    """Killed at any moment of replacing a large file again and again: what has the name is one of the versions."""
    path = tmp_path / "out.csv"
    code = f"""
import itertools
from tsforecast._files import replacing
for i in itertools.count():
    with replacing({str(path)!r}) as file:
        for _ in range(50):
            file.write(b"%07d\\n" % i * 1000)
"""
    for wait in (0.0, 0.003, 0.01):
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            began = os.stat(path).st_mtime_ns if path.exists() else 0
            while not path.exists() or os.stat(path).st_mtime_ns == began:
                time.sleep(0.001)
            time.sleep(wait)
            process.kill()
        lines = path.read_bytes().split(b"\n")
        assert len(lines) == 50_001
        assert len(set(lines[:-1])) == 1


def test_a_failed_write_names_the_target():
    """Not the hidden file that was to become it."""
    with pytest.raises(OSError, match=r"'/proc/out\.csv'$"):
        files.write_table(pd.DataFrame({"y": [1]}), "/proc/out.csv")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"tsforecast\[parquet\]"):
        files.write_table(pd.DataFrame({"y": [1]}), str(tmp_path / "o.parquet"))
