"""`millpond score` from files to output: right, in order, each row once, whatever is killed; wrong input refused."""

import json
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from api.bulk.command import run
from api.errors import LaunchError
from tests.conftest import eventually
from tests.end_to_end.backfills import (
    begun,
    chunks_done,
    conversations,
    done,
    ended,
    family_of,
    ledger_of,
    plain_scores,
    scores,
    split,
    written,
)
from tests.golden.variants import golden_of, made
from tests.server import Millpond, client_of, serving

ALL = conversations(2_000)
LINES = ALL[:400]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(golden_of("chat-reward"), tmp_path_factory.mktemp("model") / "reward")


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[Millpond]:
    with serving(model=checkpoint) as running:
        yield running


@pytest.fixture(scope="module")
def wanted(server: Millpond) -> list[float]:
    """The score of each line of `ALL`."""
    with client_of(server) as client:
        return scores(client, ALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path / "in.jsonl", LINES)
    return tmp_path


def assert_right(output: Path, wanted: list[float], lines: list[bytes] = LINES) -> None:
    """Every row once and in order, its bytes as they were, with its score."""
    found = [split(line) for line in output.read_bytes().splitlines()]
    assert [line for line, _ in found] == lines
    np.testing.assert_allclose([score for _, score in found], wanted[: len(lines)], rtol=0, atol=1e-5)


def test_rows_keep_their_order_and_bytes_and_get_the_scores_of_plain_calls(
    server: Millpond, folder: Path, wanted: list[float]
) -> None:
    source, output = written(folder / "all.jsonl", ALL), folder / "out.jsonl"
    command = ["score", source, "--output", output, "--server", server.url, "--chunk-rows", 300]
    status, said = done(*command)
    assert status == 0, said
    assert_right(output, wanted, ALL)
    with client_of(server) as client:
        np.testing.assert_allclose(wanted[:100], plain_scores(client, ALL[:100]), rtol=0, atol=1e-5)
    assert source.read_bytes().splitlines() == ALL
    assert "2,000 of 2,000 rows" in said
    assert "2,000 rows: 2,000 answered" in said
    rows = [rows for _, rows, *_ in ledger_of(output)]
    assert rows == [300] * 6 + [200]
    assert not list(folder.glob("out.jsonl.*tmp*")) and not (folder / "out.jsonl.millpond" / "parts").exists()
    before = output.stat().st_mtime_ns
    status, said = done(*command)
    assert (status, output.stat().st_mtime_ns) == (0, before)
    assert "is finished already" in said and "2,000 rows: 2,000 answered" in said


def test_a_command_that_is_killed_leaves_no_process_and_is_resumed_by_the_same_command(
    checkpoint: Path, folder: Path, wanted: list[float]
) -> None:
    output = folder / "out.jsonl"
    command = ["score", folder / "in.jsonl", "--output", output, "--model", checkpoint, "--chunk-rows", 10]
    first = begun(*command)
    eventually(lambda: chunks_done(output) >= 3, 60)
    family = family_of(first.pid)
    assert len(family) > 6
    first.kill()
    first.communicate()
    psutil.wait_procs(family, 40)
    assert not [each for each in family if each.is_running()]
    assert not output.exists()
    before = {number: row for number, row in enumerate(ledger_of(output)) if row[0] is not None}
    assert 3 <= len(before) < 40
    status, said = done(*command)
    assert status == 0, said
    assert_right(output, wanted)
    after = ledger_of(output)
    assert [rows for _, rows, *_ in after] == [10] * 40
    assert {number: after[number] for number in before} == before


def test_ctrl_c_stops_within_seconds_and_prints_the_command_that_goes_on(
    server: Millpond, folder: Path, wanted: list[float]
) -> None:
    output = folder / "out.jsonl"
    command = ["score", str(folder / "in.jsonl"), "--output", str(output), "--server", server.url, "--chunk-rows", "8"]
    process = begun(*command)
    eventually(lambda: chunks_done(output) >= 3, 60)
    family = family_of(process.pid)
    process.send_signal(signal.SIGINT)
    status, said = ended(process, 15)
    assert status == 130
    assert said.splitlines()[-1].strip() == "millpond " + " ".join(command)
    assert not [each for each in family if each.is_running()]
    assert not output.exists()
    assert {row[4] for row in ledger_of(output)} == {None}, "chunks were not given back"
    status, said = done(*command)
    assert status == 0, said
    assert_right(output, wanted)


def test_a_changed_input_or_option_is_refused_until_restart(server: Millpond, folder: Path) -> None:
    source, output = written(folder / "few.jsonl", LINES[:100]), folder / "out.jsonl"
    command = ["score", str(source), "--output", str(output), "--server", server.url, "--chunk-rows", "20"]
    assert done(*command, "--executors", 1)[0] == 0
    before = output.read_bytes()
    for changed in (LINES[:101], LINES[:99], [*LINES[:99], LINES[0]]):
        written(source, changed)
        with pytest.raises(LaunchError, match=r"bring back|restart"):
            run("score", command[1:])
    written(source, LINES[:100])
    with pytest.raises(LaunchError, match="--chunk-rows is not what this output was begun with"):
        run("score", [*command[1:-1], "30"])
    with pytest.raises(LaunchError, match="pooled or cut"):
        run("score", [*command[1:], "--truncate", "left"])
    assert run("score", command[1:]) == 0
    assert output.read_bytes() == before
    written(source, LINES[:50])
    assert done(*command, "--restart", "--executors", 1)[0] == 0
    assert [split(line)[0] for line in output.read_bytes().splitlines()] == LINES[:50]


def test_identical_rows_are_computed_once_and_bad_ones_listed(server: Millpond, folder: Path) -> None:
    wrong = [b'{"id": 1}', b"{no json", b'{"messages": [{"role": "user", "content": "' + b"water " * 999 + b'"}]}']
    source = written(folder / "some.jsonl", [*LINES[:10], *wrong, *LINES[:10]])
    output = folder / "out.jsonl"
    status, said = done("score", source, "--output", output, "--server", server.url, "--executors", 1)
    assert status == 1, said
    assert "20 answered (10 from an identical row), 3 bad" in said
    found = [split(line) for line in output.read_bytes().splitlines()]
    assert [line for line, _ in found] == [*LINES[:10], *LINES[:10]]
    assert found[:10] == found[10:]
    bad = [json.loads(line) for line in Path(f"{output}.errors.jsonl").read_bytes().splitlines()]
    assert [(each["file"], each["line"]) for each in bad] == [(str(source), number) for number in (11, 12, 13)]
    assert bad[0]["column"] == bad[2]["column"] == "messages"
    assert all(each["reason"] for each in bad)


def test_too_many_bad_rows_stop_the_run_and_a_higher_limit_goes_on(server: Millpond, folder: Path) -> None:
    source = written(folder / "bad.jsonl", [*LINES[:30], *[b"{}"] * 5, *LINES[30:60]])
    output = folder / "out.jsonl"
    command = ["score", source, "--output", output, "--server", server.url, "--chunk-rows", 10]
    status, said = done(*command, "--max-errors", 4, "--executors", 1)
    assert status == 2
    assert "more than --max-errors 4" in said
    assert not output.exists()
    assert done(*command, "--max-errors", 5, "--executors", 1)[0] == 1
    assert len(output.read_bytes().splitlines()) == 60


def test_commands_that_share_a_ledger_share_the_work(
    server: Millpond, folder: Path, wanted: list[float], clean_redis_url: str
) -> None:
    output = folder / "out.jsonl"
    command = ["score", folder / "in.jsonl", "--output", output, "--server", server.url, "--chunk-rows", 20]
    together = [begun(*command, "--ledger", clean_redis_url, "--executors", 1) for _ in range(2)]
    for status, said in [ended(each) for each in together]:
        assert status == 0, said
        assert "400 rows: 400 answered" in said
    assert_right(output, wanted)


def test_a_dry_run_shows_prompts_and_writes_nothing(server: Millpond, folder: Path) -> None:
    output = folder / "out.jsonl"
    status, said = done("score", folder / "in.jsonl", "--output", output, "--server", server.url, "--dry-run")
    assert status == 0, said
    assert "400 rows, read as: messages" in said
    assert "  | " in said and "tokens" in said and "rows/s" in said
    assert [path.name for path in folder.iterdir()] == ["in.jsonl"]


def test_a_full_disk_is_told_in_a_sentence_and_the_same_command_goes_on(
    server: Millpond, folder: Path, wanted: list[float]
) -> None:
    output = folder / "out.jsonl"
    command = ["score", folder / "in.jsonl", "--output", output, "--server", server.url, "--chunk-rows", 200]

    def small_files() -> None:
        """As if the disk was full: no file grows beyond this."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    status, said = done(*command, preexec_fn=small_files)
    assert status == 2, said
    assert "Traceback" not in said
    assert "again" in said.splitlines()[-1]
    assert not output.exists()
    status, said = done(*command)
    assert status == 0, said
    assert_right(output, wanted)


def test_what_is_wrong_is_told_in_one_sentence_before_anything_is_written(
    server: Millpond, checkpoint: Path, folder: Path
) -> None:
    source = str(folder / "in.jsonl")
    written(folder / "taken.jsonl", LINES[:1])
    written(folder / "mixed.jsonl", [LINES[0], b'{"prompt": "where", "completion": "down"}'])
    written(folder / "other.jsonl", [b'{"something": 1}'])
    (folder / "empty.jsonl").touch()
    (folder / "nothing").mkdir()
    before = sorted(path.name for path in folder.iterdir())
    at = ["--server", server.url]
    out = ["--output", str(folder / "out.jsonl")]
    with httpx.Client() as client:
        assert client.get(server.url + "/v1/models").status_code == 200
    for arguments, words in [
        ([source, *at], "--output"),
        ([source, "--output", str(folder / "out.txt"), *at], "--output-format"),
        ([source, "--output", str(folder / "taken.jsonl"), *at], "is there already"),
        ([source, *out], "--model"),
        ([source, *out, "--server", "localhost:1"], "http://"),
        ([source, *out, "--server", "http://127.0.0.1:1"], "cannot be reached"),
        ([source, *out, *at, "--model", "nobody"], "nobody"),
        ([source, *out, "--model", str(folder / "nothing")], "nothing"),
        ([source, *out, *at, "--ledger", "redis://127.0.0.1:1/0"], "--ledger"),
        ([source, *out, *at, "--column", "messages"], "ROLE=COLUMN"),
        ([source, *out, *at, "--column", "messages=nowhere"], "nowhere"),
        ([source, *out, *at, "--chunk-rows", "0"], "chunk-rows"),
        ([source, *out, *at, "--unknown"], "--unknown"),
        ([str(folder / "nowhere.jsonl"), *out, *at], "is not there"),
        ([str(folder / "nothing"), *out, *at], "no file"),
        ([str(folder / "empty.jsonl"), *out, *at], "no rows"),
        ([str(folder / "mixed.jsonl"), *out, *at], "mixed"),
        ([str(folder / "other.jsonl"), *out, *at], "something"),
    ]:
        with pytest.raises(LaunchError) as refused:
            run("score", arguments)
        said = str(refused.value)
        assert words in said, said
        assert "\n" not in said, said
        assert sorted(path.name for path in folder.iterdir()) == before, arguments
    with pytest.raises(LaunchError, match="cannot embed"):
        run("embed", [source, *out, *at])
    shutil.rmtree(folder / "nothing")
