"""Every benchmark's report can be drawn, now and later, and the drawing says what was measured."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from benchmarks import plotting, simulate
from benchmarks.figures import FIGURES, svg_of
from benchmarks.overload import Tally

MACHINE = {"processor": "A processor", "cores": 2, "date": "2026-11-25"}
WAITS = {"calls": 5, "p50": 10.0, "p90": 40.0, "p99": 90.0, "most": 100.0}


def window(load: float, alone: float, beside: float) -> dict[str, Any]:
    times = {"alone": [10, alone], "beside": [20, beside]}
    return {"load": load, "calls": 100, **times, "tokens_per_second": 40.0, "left_over": 50.0}


REPORTS: dict[str, dict[str, Any]] = {
    "overhead": {
        "rows": [
            {"way": "bare forward", "p50_ms": 2.0, "p99_ms": 3.0, "added_ms": 2.0, "share": 0.5},
            {"way": "HTTP", "p50_ms": 4.0, "p99_ms": 9.0, "added_ms": 2.0, "share": 0.5},
        ]
    },
    "throughput": {
        "tokens_per_second": {"a peer": 5000.0, "64 callers": 7000.0, "4 callers": 8000.0},
        "ratio": {"64 callers": 1.4, "4 callers": {"a peer": 1.6}},
    },
    "mixed": {"interactive_target_ms": 50, "windows": [window(0.2, 60, 90), window(0.5, 80, 99), window(0.2, 61, 95)]},
    "overload": {
        "capacity": 10.0,
        "seconds": 2.0,
        "by_second": {"accepted": [9, 11, 3], "refused": [20, 21, 0], "answered": [4, 10, 9]},
    },
    "tenants": {
        "lane": "bulk",
        "keys": [
            {"key": "key-1", "share": 0.94, "p50_ms": 900.0, "p99_ms": 1200.0},
            {"key": "greedy", "share": 1.06, "p50_ms": 9000.0, "p99_ms": 25000.0},
        ],
    },
    "dataplane": {
        "rows": [
            {"api_processes": processes, "tokens": tokens, "kind": kind, "inputs": inputs, "items_per_second": 1000.0}
            for processes in (1, 2)
            for inputs in (1, 32)
            for tokens in (16, 512)
            for kind in ("texts", "ids")
        ]
    },
    "scaling": {
        "lines": [
            {"workers": workers, "tokens_per_second": rate, "simulated": 5100.0}
            for workers, rate in ((1, 5000.0), (8, 4900.0), (1, 5200.0), (8, 5100.0))
        ]
    },
    "simulate": {
        "seconds": 60.0,
        "utilisation": 0.9,
        "least_busy": 0.85,
        "most_busy": 0.95,
        "scheduler": 0.1,
        "redis": 0.2,
        "lanes": [
            {"lane": "interactive", "waits": WAITS, "shares": [{"tenant": "", "waits": WAITS}]},
            {"lane": "bulk", "waits": WAITS, "shares": [{"tenant": each, "waits": WAITS} for each in "ab"]},
        ],
    },
}
LABELS = {
    "overhead": ["bare forward", "+2.00 ms, 50%", "p99"],
    "throughput": ["64 callers", "7,000  (1.40 ×)", "8,000  (1.60 × a peer)"],
    "mixed": ["p50 alone", "p99 beside a backfill", "bound: twice p99 alone, and 50 ms", "20%", "0.80"],
    "overload": ["refused", "accepted", "answered", "capacity, measured before"],
    "tenants": ["2 keys, one of them greedy, in the bulk lane", "greedy", "0.94", "p99"],
    "dataplane": ["1 api process", "2 api processes", "ids, 32 a call", "512"],
    "scaling": ["measured", "simulated", "8", "0.980"],
    "simulate": ["interactive", "bulk: b", "p90", "engines", "90.0%"],
}


def words(svg: str) -> list[str]:
    """The texts of a plot."""
    return [each.text or "" for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("kind", FIGURES)
def test_a_report_becomes_a_small_plot_with_its_labels_the_same_each_time(kind: str) -> None:
    report = {"benchmark": kind, **MACHINE, **REPORTS[kind]}
    svg = svg_of(report)
    assert {*LABELS[kind], "A processor, 2 cores, 2026-11-25"} <= set(words(svg))
    assert svg == svg_of(report)
    assert len(svg) < 60_000


def test_the_background_is_white_so_that_a_page_may_be_dark() -> None:
    root = ElementTree.fromstring(svg_of({"benchmark": "overload", **REPORTS["overload"]}))
    (patch,) = (each for each in root.iter() if each.get("id") == "patch_1")
    assert "fill: #ffffff" in patch[0].get("style", "")


def test_an_overload_of_an_hour_is_a_small_plot_too() -> None:
    seconds = {name: [number % 40 for number in range(3600)] for name in ("accepted", "refused", "answered")}
    assert len(svg_of({"benchmark": "overload", **REPORTS["overload"], "by_second": seconds})) < 60_000


def test_a_plot_is_drawn_beside_the_json_and_can_be_drawn_again_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, drawn, again = tmp_path / "kept.json", tmp_path / "drawn.svg", tmp_path / "again.svg"
    run = ["simulate", "--workers", "fixed=0.01,per_token=1e-4", "--stream", "rate=20", "--seconds", "3"]
    monkeypatch.setattr(sys, "argv", [*run, "--json", str(kept), "--plot", str(drawn)])
    simulate.main()
    monkeypatch.setattr(sys, "argv", ["plotting", str(kept), str(again)])
    plotting.main()
    assert "interactive" in words(drawn.read_text())
    assert drawn.read_bytes() == again.read_bytes()


def test_a_report_without_a_plot_is_told_which_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"benchmark": "loading"}))
    monkeypatch.setattr(sys, "argv", ["plotting", str(report), str(tmp_path / "plot.svg")])
    with pytest.raises(SystemExit, match="2"):
        plotting.main()
    assert "its field `benchmark` is loading; there are plots of overhead, throughput" in capsys.readouterr().err


WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
from benchmarks import dataplane, mixed, overhead, overload, scaling, simulate, tenants
"""


def test_without_matplotlib_benchmarks_load_and_a_plot_is_refused_before_anything_is_measured() -> None:
    script = WITHOUT_MATPLOTLIB + "sys.argv = ['tenants', '--plot', 'plot.svg']\ntenants.main()\n"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == 2, found.stderr
    assert "matplotlib is not installed here: `make bench` installs it" in found.stderr


def test_tries_and_answers_of_an_overload_are_counted_by_the_second() -> None:
    tally = Tally(began=100.0)
    tally.tries += [(100.1, 200), (100.9, 429), (102.5, 200), (102.6, 504)]
    tally.answered_at += [101.0, 103.2]
    assert tally.by_second() == {"accepted": [1, 0, 2, 0], "refused": [1, 0, 0, 0], "answered": [0, 1, 0, 1]}
