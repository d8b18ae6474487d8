"""Files of text as batches read them: a bad cell is its row's own, and nothing is read as what it is not."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts import Column, ModelSchema, TensorSpec
from services.kit.errors import Invalid
from services.scorer.batches import scoring
from services.scorer.batches.cells import REFUSED
from services.scorer.batches.sheet import Sheet, asked, columns_of, needed, refused_of, to_parquet
from services.scorer.v2 import Codec
from tests.scorer.making import NUMBERS

MIXED = ModelSchema(
    inputs=(
        TensorSpec(name="job", datatype="BYTES", shape=(-1,)),
        TensorSpec(name="age", datatype="FP64", shape=(-1,)),
    ),
    outputs=NUMBERS.outputs, columns=(Column(name="age"),), prediction="label",
)  # fmt: skip


MATRIX_OF_TWO = NUMBERS.model_copy(update={
    "inputs": (TensorSpec(name="X", datatype="FP32", shape=(-1, 2)),),
    "columns": (Column(name="member"), Column(name="age")),
})  # fmt: skip


async def read(
    folder: Path, data: bytes, name: str, schema: ModelSchema
) -> tuple[dict[str, list[object]], dict[int, str]]:
    """The model's columns, and the rows that are refused."""
    path = folder / "upload"
    path.write_bytes(data)
    sheet = Sheet(await to_parquet(path, name, "", schema))
    sheet.check(schema)
    columns: dict[str, list[object]] = {}
    refused: dict[int, str] = {}
    for number, batch in sheet.batches(schema, 1000):
        refused |= {number * 1000 + row: why for row, why in refused_of(batch).items()}
        for column, values in columns_of(batch, needed(schema), 0).items():
            columns.setdefault(column, []).extend(values.tolist())
    return columns, refused


CELLS: Mapping[str, tuple[bytes, str]] = {
    "a text": (b"abc", "column 'age' is not a number"),
    "two numbers": (b"1 2", "column 'age' is not a number"),
    "Python's own": (b"1_0", "column 'age' is not a number"),
    "hexadecimal": (b"0x1F", "column 'age' is not a number"),
    "a truth": (b"true", "column 'age' is not a number"),
    "None": (b"None", "column 'age' is not a number"),
    "not UTF-8": (b"\xff\xfe", "column 'age' is not a number"),
    "decimal comma": (b'"1,5"', "column 'age' is not a number"),
}


@pytest.mark.parametrize("cell", CELLS)
async def test_a_bad_cell_of_csv_refuses_its_row_alone(tmp_path: Path, cell: str) -> None:
    bad, why = CELLS[cell]
    lines = [b"%d,2,%d\n" % (row, row) for row in range(3000)]
    lines[1700] = bad + b",2,1700\n"
    columns, refused = await read(tmp_path, b"age,income,debt\n" + b"".join(lines), "rows.csv", NUMBERS)
    assert refused == {1700: why}
    assert columns["debt"] == [float(row) for row in range(3000)]
    assert columns["age"][1699] == 1699.0 and columns["age"][1701] == 1701.0 and np.isnan(columns["age"][1700])  # pyright: ignore


@pytest.mark.parametrize(("value", "why"), [
    (b'"abc"', "column 'age' is not a number"), (b"true", "column 'age' is not a number"),
    (b"[1]", "column 'age' is not a number"), (b'{"a":1}', "column 'age' is not a number"),
    (b'"7"', "column 'age' is not a number"), (b'1,"age":2', "column 'age' is there twice"),
])  # fmt: skip
async def test_a_bad_value_of_json_lines_refuses_its_row_alone(tmp_path: Path, value: bytes, why: str) -> None:
    lines = [b'{"age":%d,"income":2,"debt":%d}\n' % (row, row) for row in range(3000)]
    lines[1700] = b'{"age":' + value + b',"income":2,"debt":1700}\n'
    columns, refused = await read(tmp_path, b"".join(lines), "rows.jsonl", NUMBERS)
    assert refused == {1700: why}
    assert columns["debt"] == [float(row) for row in range(3000)]
    assert columns["age"][1699:1702:2] == [1699.0, 1701.0]


async def test_beside_a_bad_cell_all_others_are_read_as_the_fast_reader_reads_them(tmp_path: Path) -> None:
    cells = [b" 1 ", b"+1", b"1.", b".5", b"-2e3", b"inf", b"-Infinity", b"NaN", b"NA", b"", b'""', b'"1"', b"1e999",
             b"9007199254740993"]  # fmt: skip
    good = b"age,income,debt\n" + b"".join(cell + b",2,3\n" for cell in cells)
    fast, none = await read(tmp_path, good, "rows.csv", NUMBERS)
    slow, refused = await read(tmp_path, good + b"x,2,3\n", "rows.csv", NUMBERS)
    assert none == {} and list(refused) == [len(cells)]
    np.testing.assert_array_equal(np.array(slow["age"][:-1]), np.array(fast["age"]))
    values = [b"1", b"-2.5e3", b"null", b"NaN", b"Infinity", b"9007199254740993", b"-0"]
    lines = b"".join(b'{"income":2,"debt":3,"age":' + value + b"}\n" for value in values) + b'\n{"income":2,"debt":3}\n'
    fast, none = await read(tmp_path, lines, "rows.jsonl", NUMBERS)
    slow, refused = await read(tmp_path, lines + b'{"income":2,"debt":3,"age":"x"}\n', "rows.jsonl", NUMBERS)
    assert none == {} and list(refused) == [len(values) + 1]
    np.testing.assert_array_equal(np.array(slow["age"][:-1]), np.array(fast["age"]))


@pytest.mark.parametrize(("name", "data", "why"), [
    ("rows.csv", b'age,job,note\n1,clerk,"a\nb"\n2,\xff,x\n', "column 'job' is no text in UTF-8"),
    ("rows.jsonl", b'{"age":1,"job":"clerk"}\n{"age":2,"job":7}\n', "column 'job' is not a text"),
    ("rows.jsonl", b'{"age":1,"job":"clerk"}\n{"age":2,"job":"\\ud800"}\n', "column 'job' is no text in UTF-8"),
])  # fmt: skip
async def test_a_text_that_is_none_refuses_its_row_alone(tmp_path: Path, name: str, data: bytes, why: str) -> None:
    columns, refused = await read(tmp_path, data, name, MIXED)
    assert (columns["job"][0], refused) == (b"clerk", {1: why})


@pytest.mark.parametrize(("name", "data", "named"), [
    ("rows.csv", b"age,income,debt\n1,2,3\n4,5\n", "row 1 has 2 cells; the first line names 3 columns"),
    ("rows.csv", b"age,income,debt\n" + b"1,2,3\n" * 300_000 + b"1,2,3,4\n", "row 300000 has 4 cells"),
    ("rows.jsonl", b'{"age":1,"income":2,"debt":3}\nnonsense\n', "row 1 of the file is no row"),
    ("rows.jsonl", b'{"age":1,"income":2,"debt":3}\n\n[1,2,3]\n', "row 1 of the file is no row: it is no JSON object"),
    ("rows.jsonl", b'{"age":1,"income":2,"debt":3}\n' * 60_000 + b'{"age":1,', "row 60000 of the file is no row"),
    ("rows.jsonl", b'{"income":1,"debt":3}\n' * 3, "the column 'age' is missing; the file has income, debt"),
    ("rows.csv", b"income,debt\n1,2\n", "the column 'age' is missing"),
])  # fmt: skip
async def test_a_file_that_is_none_of_its_kind_is_refused_by_the_row_where_that_begins(
    tmp_path: Path, name: str, data: bytes, named: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await read(tmp_path, data, name, NUMBERS)
    assert named in refused.value.message


async def test_what_no_model_takes_is_not_looked_into_and_a_key_may_come_late(tmp_path: Path) -> None:
    csv = b"age,income,debt,note\n1,2,3,\xff\n4,5,6,x\n"
    assert (await read(tmp_path, csv, "rows.csv", NUMBERS))[1] == {}
    lines = b'{"income":2,"debt":3,"note":1}\n' * 50_000 + b'{"age":4,"income":2,"debt":3,"note":"x"}\n'
    columns, refused = await read(tmp_path, lines, "rows.jsonl", NUMBERS)
    assert refused == {} and columns["age"][-1] == 4.0


async def test_rows_that_are_not_asked_are_no_part_of_what_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(b"age,income,debt\n1,2,3\nx,2,3\n")
    made = await to_parquet(path, "rows.csv", "", NUMBERS)
    ((_, batch),) = Sheet(made).batches(NUMBERS, 10)
    assert asked(batch)["age"].to_pylist() == [1.0]
    assert pq.read_schema(made).names[-1] == REFUSED


TRUTHS = ModelSchema(
    inputs=(
        TensorSpec(name="member", datatype="BOOL", shape=(-1,)), TensorSpec(name="age", datatype="FP64", shape=(-1,)),
    ),
    outputs=NUMBERS.outputs, columns=(Column(name="member"), Column(name="age")), prediction="label",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.csv", b"member,age\ntrue,1\nFALSE,2\n1,3\n"),
        ("rows.csv", b"member,age\ntrue,1\n fAlse ,2\n1.0,3\n"),
        ("rows.jsonl", b'{"member":true,"age":1}\n{"member":false,"age":2}\n{"member":true,"age":3}\n'),
        ("rows.jsonl", b'{"member":true,"age":1}\n{"member":0,"age":2}\n{"member":1.0,"age":3}\n'),
    ],
)
async def test_truths_are_read_for_what_takes_truths(name: str, data: bytes, tmp_path: Path) -> None:
    columns, refused = await read(tmp_path, data, name, TRUTHS)
    assert (columns["member"], columns["age"], refused) == ([1, 0, 1], [1, 2, 3], {})
    given = {name: np.array(values) for name, values in columns.items()}
    codec = Codec(TRUTHS, "m", "1", "champion", lambda _, __: None)
    assert scoring.arrays(given, TRUTHS, codec)["member"].tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.csv", b"member,age\ntrue,1\nyes,2\n"),
        ("rows.jsonl", b'{"member":true,"age":1}\n{"member":"true","age":2}\n'),
    ],
)
async def test_what_is_no_truth_refuses_its_row_alone(name: str, data: bytes, tmp_path: Path) -> None:
    columns, refused = await read(tmp_path, data, name, TRUTHS)
    assert (columns["member"][0], refused) == (1.0, {1: "column 'member' is not true or false"})


@pytest.mark.parametrize("schema", [TRUTHS, MATRIX_OF_TWO])
def test_truths_of_parquet_are_truths_or_the_numbers_0_and_1(schema: ModelSchema, tmp_path: Path) -> None:
    pq.write_table(pa.table({"member": [True, False, True], "age": [1.0, 2.0, 3.0]}), tmp_path / "rows")
    sheet = Sheet(tmp_path / "rows")
    sheet.check(schema)
    ((_, batch),) = sheet.batches(schema, 10)
    codec = Codec(schema, "m", "1", "champion", lambda _, __: None)
    asked = scoring.arrays(columns_of(batch, needed(schema), 0), schema, codec)
    said = asked["member"] if "member" in asked else asked["X"][:, 0]
    assert said.tolist() == [1, 0, 1] and said.dtype == (np.bool_ if "member" in asked else np.float32)


@pytest.mark.parametrize(
    ("data", "row", "why"),
    [
        (b'{"age":1,"income":2,"debt":3} {"age":4,"income":5,"debt":6}\n', 0, "Extra data"),
        (b'{"age":1,"income":2,"debt":3}\n{"age":1}{"age":4,"income":5,"debt":6}\n', 1, "Extra data"),
        (b'{"age":1,\n"income":2,"debt":3}\n', 0, "Expecting property name"),
        (b'{"age":1}{"age":1}\n{"age":1,\n"income":2}', 0, "Extra data"),
    ],
)  # fmt: skip
async def test_a_line_is_an_object_and_an_object_a_line(data: bytes, row: int, why: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=f"row {row} of the file is no row: it is not valid JSON: {why}"):
        await read(tmp_path, data, "rows.jsonl", NUMBERS)


async def test_empty_lines_and_space_around_an_object_are_no_rows(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"age":1,"income":2,"debt":3}\r\n\n  {"age":4,"income":5,"debt":NaN}  \n\n'
    columns, refused = await read(tmp_path, data, "rows.jsonl", NUMBERS)
    assert (columns["age"], refused) == ([1.0, 4.0], {})
    assert np.isnan(columns["debt"]).tolist() == [False, True]  # pyright: ignore
