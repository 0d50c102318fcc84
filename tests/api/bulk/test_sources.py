"""Which files an input means, and what is said where it means none."""

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from api.bulk.chunking import chunks_of
from api.bulk.errors import BulkError
from api.bulk.sources import Source, find_inputs

NOBODY = 65_534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.jsonl.gz", "deep/c.ndjson.zst", "README.md", "info.json", ".cache/x.jsonl", "_SUCCESS"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def as_nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


def test_a_folder_is_its_known_files_sorted_with_those_of_folders_within(folder: Path) -> None:
    assert find_inputs([str(folder)]) == [
        Source(str(folder / "a.jsonl.gz"), "jsonl", "gz"),
        Source(str(folder / "b.jsonl"), "jsonl", "none"),
        Source(str(folder / "deep/c.ndjson.zst"), "jsonl", "zst"),
    ]


def test_several_keep_their_order_and_a_file_that_is_named_twice_comes_once(folder: Path) -> None:
    found = find_inputs([str(folder / "info.json"), f"file://{folder}/b.jsonl", str(folder / "*.jsonl*")])
    assert [Path(source.path).name for source in found] == ["info.json", "b.jsonl", "a.jsonl.gz"]


def test_a_relative_path_becomes_an_absolute_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert find_inputs(["b.jsonl"]) == [Source(str(folder / "b.jsonl"), "jsonl")]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").touch()
    assert find_inputs([str(tmp_path / "a[1].csv")]) == [Source(str(tmp_path / "a[1].csv"), "csv")]


def test_storage_by_url_has_files_folders_and_globs() -> None:
    system = fsspec.filesystem("memory")
    for name in ("/found/b.csv", "/found/deep/a.tsv.gz", "/found/_x/c.csv"):
        system.pipe(name, b"a\n1\n")
    expected = [Source("memory:///found/b.csv", "csv"), Source("memory:///found/deep/a.tsv.gz", "csv", "gz")]
    assert find_inputs(["memory://found"]) == expected
    assert find_inputs(["memory://found/*.csv", "memory://found/deep/a.tsv.gz"]) == expected
    assert [source.delimiter for source in expected] == [",", "\t"]


@pytest.mark.parametrize(
    ("names", "pattern", "sentence"),
    [
        ([], "gone.jsonl", "gone.jsonl is not there"),
        ([], "*.jsonl", "matches no file"),
        (["a.txt"], "a.txt", "a.txt is of no known format: its name must end in .jsonl,"),
        (["a.parquet.gz"], "a.parquet.gz", "no known format"),
        (["a.txt", "b.json"], ".", "has no file whose name ends in .jsonl, .ndjson, .csv"),
        (["a.csv", "b.jsonl"], ".", "mixes formats: "),
        ([], "s4://bucket/a.jsonl", "no known kind of URL"),
    ],
)
def test_what_means_no_rows_is_an_error(tmp_path: Path, names: list[str], pattern: str, sentence: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(BulkError) as error:
        find_inputs([pattern if "://" in pattern else str(tmp_path / pattern)])
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("closed", ["folder", "folder/within", "folder/a.jsonl"])
def test_an_unreadable_folder_is_an_error_that_names_it(
    tmp_path: Path, closed: str, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "folder/within").mkdir(parents=True)
    (tmp_path / "folder/a.jsonl").touch()
    for each in (tmp_path, *tmp_path.parents[:3], tmp_path / "folder", tmp_path / "folder/within"):
        each.chmod(0o755)
    (tmp_path / closed).chmod(0)
    request.getfixturevalue("as_nobody")
    with pytest.raises(BulkError, match="cannot be read: Permission denied"):
        for source in find_inputs([str(tmp_path / "folder")]):
            list(chunks_of(source, 10, tmp_path))
