"""Tables: what is a name, an index or a label is no coordinate, and nothing of them is read wrongly in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from janelia_core.files import VectorFileError, open_vectors, save_vectors
from janelia_core.files.formats.cast import cast
from janelia_core.files.inputs.input import Input

COUNTING = "".join(f"{row},{row + 0.5}\n" for row in range(12))


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def rows(path: Path, header: bool | None = None) -> list[list[float]]:
    with open_vectors(Input(path, header=header)) as file:
        return file.read(0, file.n).tolist()


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "1,2\r3,4",
        "1;2\r\n\r\n3;4\r\n",
        '"1","2"\n"3","4"\n',
        "\ufeff1\t2\n3\t4\n",
        "+1,2.\n3e0,.4E1\n",
        "x,é\n1,2\n3,4\n",
        '"a,b",c\n1,2\n3,4\n',
        "# x,y\n1,2\n3,4\n",
        ",0,1\n0,1,2\n1,3,4\n",
        '"","V1","V2"\n"1",1,2\n"2",3,4\n',
        "Unnamed: 0,x,y\n0,1,2\n1,3,4\n",
        ",index,x,y\n0,0,1,2\n1,1,3,4\n",
    ],
)
def test_names_and_numbers_of_rows_in_a_csv_are_no_data(text: str, tmp_path: Path) -> None:
    assert rows(table(tmp_path / "a.csv", text)) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1,NA\n2,3\n", "line 1: field 2 is 'NA'.*--no-header"),
        ("NA,NA\n2,3\n", "line 1: field 1 is 'NA'.*--header"),
        ("1D3,2\n4,5\n", "field 1 is '1D3'"),
        ("1D3,1D4\n4,5\n", "field 1 is '1D3'"),
        ('"1,000",2\n3,4\n', "field 1 is '1,000'"),
        ("1_000,2\n3,4\n", "'1_000'"),
        ("0x1F,2\n3,4\n", "'0x1F'"),
        ("\u0661,2\n3,4\n", "no number"),
        ("1,2,\n3,4,\n", "field 3 is empty"),
        ("\t1\t2\n\t3\t4\n", "field 1 is empty"),
        ("nan,inf\n1,2\n", "a number and a name"),
        ("0,1,2\n.5,.6,.7\n", "numbers the columns.*--header"),
        ('"1","2"\n3,4\n', "quoted"),
        ("1,5;2,5\n3,5;4,5\n", "'1,5'.*decimal commas"),
        ("1,2,3\n.5,.6,.7\n", "numbers the columns.*--header"),
        ("0.0,1.0,2.0\n.51,.6,.7\n", "numbers the columns"),
        ("0\n.5\n", "numbers the columns"),
        ("cell_id,x\n7,5\n3,6\n", "column 1, 'cell_id', numbers rows by its name.*--header"),
        ("0,.5\n1,.6\n2,.7\n", "column 1 counts the rows"),
        ("x;y\n1,5;2,5\n", "field 1 is '1,5'.*decimal commas"),
        ('"V1","V2"\n"1",2,3\n', "2 names for 3 columns.*row names"),
        (",x\n3,1\n7,1\n", "column 1 is an index by its name"),
        (COUNTING, "column 1 counts the rows.*--no-header"),
        ("a,x\n" + COUNTING, "column 1 counts the rows"),
        ("1,2\n3,1e400\n", "at byte 4: line 2: field 2 is '1e400', more than float64"),
        ("1,2\n3,9007199254740993\n", "line 2: field 2 is '9007199254740993', an integer"),
        ("1\n\n2\n", "misses a value"),
        ("1,2\n3,4\0\n", "field 2 is"),
        ("1,2\n3,nan(1)\n", "field 2 is 'nan"),
        ("x,y\n", "no line of numbers"),
    ],
)
def test_what_a_csv_leaves_open_is_an_error_that_names_line_and_field(
    text: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(VectorFileError, match=complaint) as error:
        open_vectors(table(tmp_path / "a.csv", text))
    assert len(str(error.value)) - len(str(tmp_path)) < 250
    assert str(error.value).isprintable()


def test_whoever_says_what_the_first_line_of_a_csv_is_is_believed(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "0,1\n2,3.5\n")
    assert rows(path, header=True) == [[2, 3.5]]
    assert rows(path, header=False) == [[0, 1], [2, 3.5]]
    assert len(rows(table(path, COUNTING), header=False)) == 12
    with pytest.raises(VectorFileError, match="field 1 is 'x'"):
        rows(table(path, "x,y\n1,2\n"), header=False)
    assert rows(table(path, ",x\n0,5\n1,6\n"), header=True) == [[5], [6]]
    assert rows(table(path, "id,x\n0,5\n"), header=True) == [[0, 5]]
    assert rows(table(path, "0\n5\n")) == [[0], [5]]  # a single column: data
    with pytest.raises(VectorFileError, match="has no name"):
        rows(table(path, "x\n1,5\n2,6\n"), header=True)


def test_words_and_roundings_that_a_csv_may_hold(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "1,2\n-Infinity,1e-400\nNaN,9007199254740992\n1e30,9007199254740993.0\n")
    expected = [[1, 2], [-np.inf, 0], [np.nan, 2.0**53], [1e30, 2.0**53]]
    np.testing.assert_array_equal(rows(path), expected)


def test_a_csv_of_any_width_is_read_in_the_memory_given_for_it(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "\n".join(",".join("0." + "7" * 18 for _ in range(4000)) for _ in range(9)))
    with Input(path, header=False).opened("", memory=1 << 18) as file:
        assert file.shape == (9, 4000)
    with pytest.raises(VectorFileError, match=r"line longer than 65536 bytes; .*--max-memory"):
        Input(path).opened("", memory=1 << 16)


def test_integers_that_count_are_read_as_they_were_written(tmp_path: Path) -> None:
    for values in (torch.arange(6).reshape(2, 3), torch.tensor([[0], [5]]), torch.tensor([[1, 2, 3], [5, 4, 3]])):
        save_vectors(tmp_path / "a.csv", values)
        assert rows(tmp_path / "a.csv") == values.tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_a_finite_number_that_the_dtype_asked_for_does_not_hold_is_an_error(dtype: str, tmp_path: Path) -> None:
    values = torch.tensor([[1.0, np.inf], [1e300, 2.0]], dtype=torch.float64)
    save_vectors(tmp_path / "a.npy", values)
    with cast(open_vectors(tmp_path / "a.npy"), dtype) as file:
        assert file.read(0, 1).tolist() == [[1, np.inf]]
        with pytest.raises(VectorFileError, match=rf"1e\+300 in row 1, column 0, more than {dtype} holds"):
            file.take(torch.tensor([1]))


def written(path: Path, columns: dict[str, Any], metadata: dict[str, Any] | None = None) -> Path:
    arrow = pytest.importorskip("pyarrow")
    made = arrow.table(columns)
    if metadata:
        made = made.replace_schema_metadata({name: json.dumps(value) for name, value in metadata.items()})
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(made, path, row_group_size=3)
    elif path.suffix == ".feather":
        pytest.importorskip("pyarrow.feather").write_feather(made, path, compression="zstd", chunksize=3)
    else:
        with pytest.importorskip("pyarrow.ipc").new_stream(path, made.schema) as writer:
            writer.write_table(made, max_chunksize=3)
    return path


TABLES = pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather"])
NUMBERS = {"x": [1.5, 2.5, 3.5, 4.5], "y": [1, 2, 3, 4]}
LISTS = {"text": ["a", "b", "c", "d"], "v": [[1.5, 1.0], [2.5, 2.0], [3.5, 3.0], [4.5, 4.0]]}
EXPECTED = [[1.5, 1], [2.5, 2], [3.5, 3], [4.5, 4]]


@TABLES
def test_an_index_and_labels_of_a_table_are_no_coordinates(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    index = {"__index_level_0__": [7, 8, 2, 4]}
    labels = {"info": {"features": {"kind": {"_type": "ClassLabel", "names": ["a", "b"]}, "x": {"dtype": "float64"}}}}
    tables: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
        (NUMBERS, None),
        (LISTS, None),
        (NUMBERS | index, {"pandas": {"index_columns": ["__index_level_0__"]}}),
        (NUMBERS | index, None),
        ({"id": [5, 9, 1, 2]} | NUMBERS, {"pandas": {"index_columns": ["id"]}}),
        (NUMBERS, {"pandas": {"index_columns": [{"kind": "range", "start": 0, "stop": 4, "step": 1}]}}),
        (NUMBERS | {"kind": [0, 1, 1, 0]}, {"huggingface": labels}),
        ({"Unnamed: 0": [0, 1, 2, 3]} | NUMBERS, None),
    ]
    for columns, metadata in tables:
        assert rows(written(path, columns, metadata)) == EXPECTED
    refused: list[tuple[dict[str, Any], str]] = [
        ({"index": [0, 1, 2, 3]} | NUMBERS, "'index' is an index by its name"),
        ({"row_nr": [0, 1, 2, 3]} | NUMBERS, "'row_nr' is an index by its name"),
        (NUMBERS | {"s": ["a"] * 4}, "'s' holds string"),
        ({"v": LISTS["v"], "w": LISTS["v"]}, "holds 2 arrays"),
        ({"v": [[1.0], [2.0], [3.0], [3.0, 4.0]]}, "different lengths"),
        ({"v": [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]}, "different lengths"),
        ({"v": [[1.0], None]}, "misses values"),
        ({"v": [[1.0], [None]]}, "misses values"),
        ({"x": [1.0, None]}, "misses values"),
    ]
    for columns, complaint in refused:
        with pytest.raises(VectorFileError, match=complaint):
            open_vectors(written(path, columns))


@TABLES
def test_a_table_of_many_columns_is_decoded_in_the_memory_given_for_it(suffix: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((7, 200))
    path = written(tmp_path / f"a.{suffix}", {f"c{at}": values[:, at] for at in range(200)})
    with Input(path).opened("", memory=1 << 14) as file:
        assert torch.equal(file.read(0, 7), torch.from_numpy(values))


@TABLES
def test_long_rows_are_refused_before_they_are_decoded(suffix: str, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    zeros = arrow.FixedSizeListArray.from_arrays(arrow.array(np.zeros(3_000_000)), 1_500_000)
    path = written(tmp_path / f"a.{suffix}", {"v": zeros})
    before = arrow.total_allocated_bytes()
    with pytest.raises(VectorFileError, match=r"a row of 1500000 numbers takes 96000000 bytes.*--max-memory"):
        Input(path).opened("", memory=1 << 20)
    assert arrow.total_allocated_bytes() <= before


def test_a_page_of_parquet_that_holds_more_than_its_footer_says_is_refused(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"x": np.zeros(3000)}), path, use_dictionary=False, compression="none")
    column = parquet.read_metadata(path).row_group(0).column(0)
    content = bytearray(path.read_bytes())
    said = content.index(bytes([0x15, 0xF0, 0x2E]), column.data_page_offset)  # 3000 values, as a zigzag number
    content[said + 1 : said + 3] = bytes([0xF0, 0x7E])
    path.write_bytes(content)
    with pytest.raises(VectorFileError, match=r"pages of .* values in a column of 3000"):
        open_vectors(path)


def test_damaged_statistics_of_parquet_do_not_end_the_process(tmp_path: Path) -> None:
    # pyarrow 26 calls std::terminate where a histogram of levels, in a column's size statistics, has another length
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"x": np.arange(5.0)}), path)
    content = path.read_bytes()
    refused = 0
    for at in range(len(content) - 420, len(content) - 8):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        try:
            open_vectors(path).close()
        except VectorFileError:
            refused += 1
    assert 100 < refused < 412


def test_an_arrow_file_holds_what_its_end_lists_and_nothing_without_it(tmp_path: Path) -> None:
    for suffix in ("feather", "arrow"):
        path = written(tmp_path / f"a.{suffix}", NUMBERS)
        content = path.read_bytes()
        for end in (len(content) - 1, len(content) - 8, len(content) // 2):
            path.write_bytes(content[:end])
            with pytest.raises(VectorFileError, match=r"cut short|buffer ends|beyond the file|unpack"):
                open_vectors(path)
    stream = tmp_path / "a.arrow"
    stream.write_bytes(content[:-8])  # all record batches, but no mark of the end
    with pytest.raises(VectorFileError, match="cut short"):
        open_vectors(stream)
    path = written(tmp_path / "a.feather", NUMBERS)
    whole = path.read_bytes()
    path.write_bytes(whole[:8] + bytes(16) + whole[24:])  # polars writes no message there
    assert rows(path) == EXPECTED
