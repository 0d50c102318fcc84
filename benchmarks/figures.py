"""What each benchmark's report looks like drawn: pure functions from the report, as JSON has it, to a figure.

One idea a figure. Colours are those of Okabe and Ito, which the colour-blind tell apart, and marks differ as well; the
background is white, so that a page may be dark.
"""

import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

Report = Mapping[str, Any]

BLUE, VERMILLION, GREEN, SKY = "#0072B2", "#D55E00", "#009E73", "#56B4E9"
GREY, PALE = "#5F5F5F", "#D9D9D9"

STYLE = {
    # Text stays text: it can be searched, and takes the reader's font.
    "svg.fonttype": "none",
    # Names inside the file are made from this and not by chance.
    "svg.hashsalt": "millpond",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.titlesize": 12,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
FOOT = 0.05
"""The lowest part of a figure, in which it says what was measured on."""

LIFT = 1.6
"""What keeps a legend off it, in heights of its letters."""

TENANTS_SHOWN = 20
MOMENTS_SHOWN = 300


def svg_of(report: Report) -> str:
    """A report as SVG; the same report gives the same text. Raises ValueError for one that has no figure."""
    kind = str(report.get("benchmark"))
    if kind not in FIGURES:
        raise ValueError(f"its field `benchmark` is {kind}; there are plots of {', '.join(FIGURES)}")
    file = io.StringIO()
    with style.context(["default", STYLE]):
        figure = FIGURES[kind](report)
        figure.text(0.99, 0.01, _machine(report), ha="right", fontsize=7, color=GREY)
        title = figure.get_suptitle()
        figure.savefig(file, format="svg", metadata={"Title": title, "Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def overhead(report: Report) -> Figure:
    """What each step adds to the median of one call, on top of the steps inside it."""
    figure, (axes,) = _panels("From a bare forward to an HTTP reply: what each step adds", [1], 3.3)
    rows = report["rows"]
    names = [f"{row['way']}\n+{row['added_ms']:.2f} ms, {row['share']:.0%}" for row in rows]
    added = [row["added_ms"] for row in rows]
    before = [row["p50_ms"] - row["added_ms"] for row in rows]
    axes.barh(names, before, color=PALE, label="the steps before")
    axes.barh(names, added, left=before, color=BLUE, label="added (medians)")
    axes.plot([row["p99_ms"] for row in rows], names, "D", color=VERMILLION, label="p99")
    axes.set_xlim(0)
    axes.set_xlabel("milliseconds of a call")
    axes.invert_yaxis()
    _legend(axes, columns=3)
    return figure


def throughput(report: Report) -> Figure:
    """Tokens a second of each way to the same vectors, and how many times another's that is."""
    rates, ratios = report["tokens_per_second"], report["ratio"]
    figure, (axes,) = _panels("The same texts: tokens a second", [1], 1.3 + 0.45 * len(rates))
    names = list(rates)
    axes.barh(names, list(rates.values()), color=[BLUE if name in ratios else PALE for name in names], height=0.65)
    for name, rate in rates.items():
        axes.annotate(f"{rate:,.0f}{_told(ratios.get(name))}", (rate, name), (4, -3), **_POINTS)
    several = any(isinstance(ratio, Mapping) for ratio in ratios.values())
    axes.set_xlim(0, (2.2 if several else 1.3) * max(rates.values()))
    axes.set_xlabel("tokens a second (medians of the rounds)")
    axes.invert_yaxis()
    return figure


def _told(ratio: float | Mapping[str, float] | None) -> str:
    """How a ratio is written behind a rate: one, or one for each of several that it is compared with."""
    if ratio is None:
        return ""
    if isinstance(ratio, Mapping):
        return "  (" + ", ".join(f"{each:.2f} × {peer}" for peer, each in ratio.items()) + ")"
    return f"  ({ratio:.2f} ×)"


def mixed(report: Report) -> Figure:
    """Latency of interactive calls by load, alone and beside a backfill; and what the backfill gets of the rest."""
    figure, (waits, shares) = _panels("Interactive callers beside a backfill", [3, 2], 4.2)
    windows, loads = report["windows"], sorted({window["load"] for window in report["windows"]})
    of_load = {load: [window for window in windows if window["load"] == load] for load in loads}

    def medians(value: Callable[[Report], float]) -> list[float]:
        return [statistics.median(map(value, of_load[load])) for load in loads]

    for label, field, colour, mark in (("alone", "alone", GREY, "o"), ("beside a backfill", "beside", BLUE, "s")):
        for number, (quantile, line) in enumerate((("p50", ":"), ("p99", "-"))):
            values = [statistics.median(each[field][number] for each in of_load[load]) for load in loads]
            waits.plot(loads, values, mark + line, color=colour, label=f"{quantile} {label}")
        waits.plot([each["load"] for each in windows], [each[field][1] for each in windows], ".", color=colour)
    target = report["interactive_target_ms"]
    bound = medians(lambda each: 2 * each["alone"][1] + target)
    waits.plot(loads, bound, "x--", color=VERMILLION, label=f"bound: twice p99 alone, and {target} ms")
    waits.set(title="milliseconds of a call", xlabel="load of interactive calls, of the capacity", xticks=loads)
    waits.set_ylim(0)
    _legend(waits, columns=3)
    for load, share in zip(loads, medians(lambda each: each["tokens_per_second"] / each["left_over"]), strict=True):
        shares.bar(f"{load:.0%}", share, color=BLUE, width=0.5)
        shares.annotate(f"{share:.2f}", (f"{load:.0%}", share), (0, 3), ha="center", **_POINTS)
    shares.axhline(1, color=GREY, linestyle="--")
    shares.set(title="tokens a second of the backfill,\nof what is left over", xlabel="load")
    waits.xaxis.set_major_formatter(_PERCENT)
    return figure


def overload(report: Report) -> Figure:
    """What became of calls, second by second, while more came than could be done; and after."""
    figure, (axes,) = _panels("More calls than can be done: what becomes of them", [1], 3.6)
    by_second = report["by_second"]
    step = -(-len(by_second["accepted"]) // MOMENTS_SHOWN)
    seconds = range(0, len(by_second["accepted"]), step)
    for field, label, colour, line in (
        ("refused", "refused", VERMILLION, ":"),
        ("accepted", "accepted", SKY, "-"),
        ("answered", "answered", BLUE, "-"),
    ):
        means = [statistics.mean(by_second[field][second : second + step]) for second in seconds]
        axes.plot(seconds, means, line, color=colour, label=label, linewidth=1.2)
    axes.axhline(report["capacity"], color=GREY, linestyle="--", linewidth=1, label="capacity, measured before")
    axes.axvline(report["seconds"], color=GREY, linewidth=0.8)
    axes.annotate("no new calls", (report["seconds"], axes.get_ylim()[1]), (4, -8), color=GREY, **_POINTS)
    axes.set(xlabel="seconds", title="calls a second, second tries among them")
    axes.set_ylim(0)
    axes.margins(x=0)
    _legend(axes, columns=4)
    return figure


def tenants(report: Report) -> Figure:
    """What each key gets of a fair share, and how long its calls take."""
    title = f"{len(report['keys'])} keys, one of them greedy, in the {report['lane']} lane"
    figure, (shares, waits) = _panels(title, [1, 1], 3.8, sharey=True)
    rows = report["keys"]
    names = [row["key"] for row in rows]
    shares.barh(names, [row["share"] for row in rows], color=BLUE, height=0.6)
    shares.axvspan(0.9, 1.1, color=PALE, zorder=0)
    shares.axvline(1, color=GREY, linestyle="--")
    most = max(1.1, *(row["share"] for row in rows))
    for row in rows:
        shares.annotate(f"{row['share']:.2f}", (most, row["key"]), (6, -3), **_POINTS)
    shares.set(title="texts a second, of a fair share", xlabel="1 is fair; grey: within a tenth of it")
    shares.set_xlim(0, 1.2 * most)
    _spans(waits, names, [[row["p50_ms"], row["p99_ms"]] for row in rows], ["p50", "p99"])
    waits.set(title="a call takes", xlabel="milliseconds (logarithmic)")
    shares.invert_yaxis()
    return figure


def dataplane(report: Report) -> Figure:
    """Items a second by their length, as texts and as token ids, in calls of one and of many."""
    rows = report["rows"]
    processes = sorted({row["api_processes"] for row in rows})
    height = 3.6
    figure, panels = _panels("Engines that cost nothing: items a second", [1] * len(processes), height, sharey=True)
    lengths = sorted({row["tokens"] for row in rows})
    marks = {"ids": ("s", "-"), "texts": ("o", "--")}
    colours = dict(zip(sorted({row["inputs"] for row in rows}), (VERMILLION, BLUE, GREEN, SKY), strict=False))
    for axes, count in zip(panels, processes, strict=True):
        for inputs, colour in reversed(colours.items()):
            for kind, (mark, line) in marks.items():
                wanted = (count, inputs, kind)
                chosen = [row for row in rows if (row["api_processes"], row["inputs"], row["kind"]) == wanted]
                axes.plot(
                    [str(row["tokens"]) for row in chosen],
                    [row["items_per_second"] for row in chosen],
                    mark + line,
                    color=colour,
                    label=f"{kind}, {inputs} a call",
                )
        axes.set(title=f"{count} api process{'es' if count > 1 else ''}", xlabel="tokens of an item", yscale="log")
        axes.set_xticks([str(length) for length in lengths])
        _plain(axes)
        axes.grid(axis="y", color=PALE, linewidth=0.6)
    _legend(panels[0], columns=4)
    return figure


def scaling(report: Report) -> Figure:
    """Throughput of each worker, by how many there are, against that of the fewest."""
    lines = report["lines"]
    counts = sorted({line["workers"] for line in lines})
    figure, (axes,) = _panels("Twice the workers, twice the work: what each still does", [1], 3.4)
    measured, simulated = dict[int, list[float]](), dict[int, list[float]]()
    for line in lines:
        if line["workers"] == lines[0]["workers"]:  # a round begins with it
            first = line
        measured.setdefault(line["workers"], []).append(line["tokens_per_second"] / first["tokens_per_second"])
        simulated.setdefault(line["workers"], []).append(line["simulated"] / first["simulated"])
    ticks = [str(count) for count in counts]
    medians = [statistics.median(measured[count]) for count in counts]
    foretold = [statistics.median(simulated[count]) for count in counts]
    axes.plot(ticks, foretold, "o:", color=GREY, label="simulated")
    axes.plot(ticks, medians, "s-", color=BLUE, label="measured")
    for tick, ratio in zip(ticks, medians, strict=True):
        axes.annotate(f"{ratio:.3f}", (tick, ratio), (0, 8), ha="center", color=BLUE, **_POINTS)
    axes.axhline(0.95, color=VERMILLION, linestyle="--", linewidth=1, label="0.95")
    axes.set(xlabel="workers", title=f"tokens a second of a worker, of those with {ticks[0]}")
    axes.set_ylim(0, 1.2 * max(*medians, *foretold, 1))
    _legend(axes, columns=3)
    return figure


def simulate(report: Report) -> Figure:
    """Waits by lane (and by tenant, where a lane has several), and what is busy."""
    figure, (waits, busy) = _panels("A simulated deployment", [3, 2], 3.6)
    quantiles = ["p50", "p90", "p99"]
    rows: dict[str, Report] = {}
    for lane in report["lanes"]:
        rows[lane["lane"]] = lane["waits"]
        if len(lane["shares"]) > 1:
            shown = lane["shares"][:TENANTS_SHOWN]
            rows |= {f"{lane['lane']}: {each['tenant'] or '(none)'}": each["waits"] for each in shown}
    _spans(waits, list(rows), [[found[quantile] for quantile in quantiles] for found in rows.values()], quantiles)
    waits.set(title="a call takes", xlabel="milliseconds (logarithmic)")
    waits.invert_yaxis()
    figure.set_figheight(max(3.6, 1.6 + 0.25 * len(rows)))
    parts = {"engines": report["utilisation"], "scheduler": report["scheduler"], "redis": report["redis"]}
    busy.barh(list(parts), list(parts.values()), color=BLUE, height=0.5)
    busy.plot([report["least_busy"], report["most_busy"]], ["engines"] * 2, "|-", color=GREY, markersize=10)
    for name, part in parts.items():
        right = report["most_busy"] if name == "engines" else part
        busy.annotate(f"{part:.1%}", (right, name), (6, -3), **_POINTS)
    busy.set(title=f"busy, of {report['seconds']:.0f} seconds", xlim=(0, 1.25), xticks=[0, 0.5, 1])
    busy.xaxis.set_major_formatter(_PERCENT)
    busy.invert_yaxis()
    return figure


FIGURES: Mapping[str, Callable[[Report], Figure]] = {
    each.__name__: each for each in (overhead, throughput, mixed, overload, tenants, dataplane, scaling, simulate)
}
"""By the name of the benchmark, which its report has in `benchmark`."""

_POINTS: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8}
_PERCENT = FuncFormatter(lambda value, _: f"{value:.0%}")


def _panels(title: str, widths: Sequence[float], height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side."""
    figure = Figure(figsize=(8, height), layout=ConstrainedLayoutEngine(rect=(0, FOOT, 1, 1 - FOOT)))
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    grid = figure.subplots(1, len(widths), sharey=sharey, width_ratios=widths, squeeze=False)
    return figure, list(grid[0])


def _legend(axes: Axes, columns: int) -> None:
    """What the marks of these axes mean, below all axes, where it hides nothing."""
    assert isinstance(axes.figure, Figure)
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", borderaxespad=LIFT, ncols=columns)


def _spans(axes: Axes, names: Sequence[str], rows: Sequence[Sequence[float]], labels: Sequence[str]) -> None:
    """A line for each name, with a mark for each quantile."""
    for name, row in zip(names, rows, strict=True):
        axes.plot([row[0], row[-1]], [name, name], "-", color=PALE, linewidth=3, zorder=1)
    styles = (("o", BLUE), ("^", GREEN), ("D", VERMILLION))
    chosen = styles if len(labels) == len(styles) else (styles[0], styles[-1])
    for number, (label, (mark, colour)) in enumerate(zip(labels, chosen, strict=True)):
        axes.plot([row[number] for row in rows], names, mark, color=colour, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_plain_number)
    axes.xaxis.set_minor_formatter(NullFormatter())
    _legend(axes, columns=len(labels))


def _plain(axes: Axes) -> None:
    """Numbers on a logarithmic axis as people write them."""
    axes.yaxis.set_major_formatter(_plain_number)
    axes.yaxis.set_minor_locator(NullLocator())


_plain_number = FuncFormatter(lambda value, _: f"{value:,.10g}")


def _machine(report: Report) -> str:
    """What it was measured on, as far as the report says it."""
    cores = f"{report['cores']} cores" if "cores" in report else ""
    return ", ".join(each for each in (report.get("processor", ""), cores, report.get("date", "")) if each)
