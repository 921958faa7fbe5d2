"""Pictures of the rows: PNG and SVG, medians with 95 % intervals, nothing process-wide touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .goals import GOALS, SIZES, newest, peer_runs

__all__ = ["draw_all", "draw_feeding", "draw_kernels", "draw_peers", "draw_ratios", "draw_scaling"]

Rows = Sequence[Mapping[str, Any]]

# Told apart by colour-blind readers, too (after Okabe and Ito, the orange darker for white figures on it).
COLOURS = ("#0072B2", "#B87F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_GREY = "#555555"


def _new_figure(height: float, width: float = 7.2) -> tuple[Any, Any]:
    # Without pyplot, and late: whoever only measures needs no matplotlib.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Any, axes: Any, title: str, remark: str, out: Path, name: str) -> list[Path]:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12)
    axes.set_title(remark, loc="left", fontsize=9, color=_GREY, pad=8)
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{name}.png", out / f"{name}.svg"]
    figure.savefig(paths[0], dpi=160)
    # The same rows give the same file.
    figure.savefig(paths[1], metadata={"Date": None})
    return paths


def _spread(figure: Mapping[str, float]) -> list[list[float]]:
    """Distances from the median to the interval's ends, as matplotlib wants them."""
    return [[figure["median"] - figure["low"]], [figure["high"] - figure["median"]]]


def _bar(axes: Any, place: float, figure: Mapping[str, float], height: float, colour: str, label: str) -> None:
    axes.barh(place, figure["median"], height, color=colour, label=label)
    axes.errorbar(figure["median"], place, xerr=_spread(figure), fmt="none", ecolor="black", elinewidth=1, capsize=2)


def _number_bars(axes: Any, form: str) -> None:
    """Write each bar's length into it, or beside it where it is short."""
    longest = max(bar.get_width() for bar in axes.patches)
    for bar in axes.patches:
        inside = bar.get_width() > 0.12 * longest
        axes.annotate(
            format(bar.get_width(), form),
            (0 if inside else bar.get_width() + 0.03 * longest, bar.get_y() + bar.get_height() / 2),
            textcoords="offset points",
            xytext=(4, 0),
            va="center_baseline",
            fontsize=8,
            color="white" if inside else _GREY,
        )


def _label(axes: Any, text: str) -> None:
    axes.set_xlabel(f"{text}\nbars: median, lines: 95 % interval", loc="right", fontsize=9)


def _of_run(rows: Rows) -> str:
    """One line on where figures come from: machine, pictures, commit."""
    row = max(rows, key=lambda row: row["time"])
    machine = row["machine"]
    words = [f"{machine['cores']} cores of an {machine['processor']}", machine.get("gpu", "")]
    words += [f"{row['pictures']} pictures" if "pictures" in row else "", f"commit {(row['commit'] or 'unknown')[:9]}"]
    return ", ".join(filter(None, words))


def draw_ratios(rows: Rows, out: Path) -> list[Path]:
    """How many times FFCV's images a second, goal beside measured; nothing where there are no such rows."""
    found = {(goal.kind, size): newest(rows, goal.kind, size) for goal in GOALS for size in SIZES}
    goals = [goal for goal in GOALS if any("ratio" in found[goal.kind, size].get("ffx", {}) for size in SIZES)]
    if not goals:
        return []
    figure, axes = _new_figure(1.4 + 0.62 * len(goals))
    used = []
    for number, goal in enumerate(goals):
        for offset, size in enumerate(SIZES):
            row, place = found[goal.kind, size].get("ffx", {}), number + 0.4 * offset - 0.2
            if "ratio" not in row:
                continue
            used.append(row)
            _bar(axes, place, row["ratio"], 0.36, COLOURS[offset], f"{size} px")
            axes.plot([goal.times[size]] * 2, [place - 0.19, place + 0.19], color=COLOURS[5], lw=2, label="goal")
    axes.axvline(1, color=_GREY, lw=1, ls=":")
    axes.set_yticks(range(len(goals)), [goal.what.replace("`", "") for goal in goals], fontsize=9)
    axes.invert_yaxis()
    _number_bars(axes, ".1f")
    _label(axes, "times FFCV's images a second, one worker on one core")
    axes.margins(x=0.08)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), frameon=False, fontsize=9)
    return _save(figure, axes, "The loader beside FFCV", _of_run(used), out, "loader")


def draw_peers(rows: Rows, out: Path, kind: str = "jpg500") -> list[Path]:
    """Images a second of all peers on the same JPEGs."""
    found = peer_runs(rows, kind)
    names = list(dict.fromkeys(name for _, peers in found.values() for name in peers))
    if not names:
        return []

    def best(name: str) -> float:
        return max(peers[name]["images_a_second"]["median"] for _, peers in found.values() if name in peers)

    names.sort(key=best, reverse=True)
    figure, axes = _new_figure(1.3 + 0.5 * len(names))
    for number, name in enumerate(names):
        for offset, (size, (samples, peers)) in enumerate(found.items()):
            if name in peers:
                rate = peers[name]["images_a_second"]
                place = number + 0.4 * (offset - (len(found) - 1) / 2)
                label = f"{size} px, epochs of {samples:,}" if number == 0 else "_"
                _bar(axes, place, rate, 0.36, COLOURS[offset], label)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    _number_bars(axes, ",.0f")
    _label(axes, "images a second, one worker on one core")
    axes.margins(x=0.1)
    axes.legend(frameon=False, fontsize=9)
    used = [row for _, peers in found.values() for row in peers.values()]
    return _save(figure, axes, "Loaders on the same JPEGs, at most 500 px, quality 90", _of_run(used), out, "peers")


def _latest_run(rows: Rows, benchmark: str) -> list[Mapping[str, Any]]:
    chosen = [row for row in rows if row["benchmark"] == benchmark]
    latest = max((row["time"] for row in chosen), default=None)
    return [row for row in chosen if row["time"] == latest]


def draw_kernels(rows: Rows, out: Path) -> list[Path]:
    """The decode and resize kernels beside their peers, as times OpenCV."""
    paths = []
    cases = {
        "decode": ("decoder", lambda row: f"crop of {row['share']:.0%} of the area", "JPEG decoding"),
        "resize": ("resizer", lambda row: "{} x {}".format(*row["crop"]) + f" to {row['side']}", "Resizing"),
    }
    for benchmark, (subject, describe, title) in cases.items():
        own = _latest_run(rows, benchmark)
        if not own:
            continue
        groups = list(dict.fromkeys(describe(row) for row in own))
        names = list(dict.fromkeys(row[subject] for row in own))
        figure, axes = _new_figure(1.6 + 0.17 * len(own))
        height = 0.8 / len(names)
        for row in own:
            which = names.index(row[subject])
            place = groups.index(describe(row)) - 0.4 + height * (which + 0.5)
            label = row[subject] if describe(row) == groups[0] else "_"
            _bar(axes, place, row["ratio"], 0.9 * height, COLOURS[which], label)
        axes.set_yticks(range(len(groups)), groups, fontsize=9)
        axes.invert_yaxis()
        axes.axvline(1, color=_GREY, lw=1, ls=":")
        axes.margins(x=0.08)
        _number_bars(axes, ".1f")
        _label(axes, f"times the images a second of {own[0]['ratio']['to']}")
        figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=3)
        paths += _save(figure, axes, f"{title}, one thread", _of_run(own), out, benchmark)
    return paths


def draw_scaling(rows: Rows, out: Path) -> list[Path]:
    """Images a second over workers, relative to one worker."""
    own = [row for row in _latest_run(rows, "scaling") if row["what"] == "alone"]
    if len({row["workers"] for row in own}) < 2:
        return []
    figure, axes = _new_figure(4.4)
    most = max(row["workers"] for row in own)
    axes.plot([1, most], [1, most], color=_GREY, lw=1, ls=":", label="ideal")
    lines = list(dict.fromkeys((row["kind"], row["peer"]) for row in own))
    for number, (kind, peer) in enumerate(lines):
        points = [row for row in own if (row["kind"], row["peer"]) == (kind, peer)]
        points.sort(key=lambda row: row["workers"])
        count = [row["workers"] for row in points]
        share = [{name: row["workers"] * value for name, value in row["share"].items()} for row in points]
        spread = [[_spread(value)[end][0] for value in share] for end in range(2)]
        axes.errorbar(
            count, [value["median"] for value in share], yerr=spread, marker="o", capsize=3, color=COLOURS[number],
            ls="-" if peer == "ffx" else "--", label=f"{peer}, {kind}",
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel("workers, each with a core")
    axes.set_ylabel("times the images a second of one worker")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    return _save(figure, axes, "More workers", _of_run(own), out, "scaling")


def draw_feeding(rows: Rows, out: Path) -> list[Path]:
    """Share of the synthetic rate over cores, by network and resolution."""
    own = [row for row in rows if row["benchmark"] == "feeding" and row["source"] != "synthetic"]
    if not own:
        return []
    newest_of: dict[tuple[str, int], str] = {}
    for row in own:
        case = (row["network"], row["size"])
        newest_of[case] = max(newest_of.get(case, ""), row["time"])
    figure, axes = _new_figure(4.4)
    for number, ((network, size), when) in enumerate(sorted(newest_of.items())):
        points = [row for row in own if (row["network"], row["size"], row["time"]) == (network, size, when)]
        points.sort(key=lambda row: int(row["source"]))
        spread = [[100 * _spread(row["share"])[end][0] for row in points] for end in range(2)]
        axes.errorbar(
            [int(row["source"]) for row in points], [100 * row["share"]["median"] for row in points], yerr=spread,
            marker="o", capsize=3, color=COLOURS[number % len(COLOURS)], label=f"{network}, {size} px",
        )  # fmt: skip
    axes.axhline(98, color=_GREY, lw=1, ls=":", label="goal: 98 %")
    axes.set_xlabel("cores that load")
    axes.set_ylabel("% of the rate on synthetic data")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    return _save(figure, axes, "Feeding a GPU", _of_run(own), out, "feeding")


def draw_all(rows: Rows, out: Path) -> list[Path]:
    """Every picture that there are rows for; returns their paths."""
    drawings = (draw_ratios, draw_peers, draw_kernels, draw_scaling, draw_feeding)
    return [path for draw in drawings for path in draw(rows, out)]
