#!/usr/bin/env python3
"""Draws time against rows and against tokens, with the roofline, from JSON of ./x bench.

    ./x bench --shapes sweep --rows 16384 --threads 2 --json sweep.json
    python tools/plot_bench.py sweep.json [MORE.json] --threads 2 --out docs/images

Needs matplotlib. Writes time_against_rows.svg and time_against_tokens.svg. The roofline of a peak is
the time that its operations take at the rate measured in the same run; that of the memory, the time
to read x, w and to write y.
"""

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "mezzotint", "svg.fonttype": "none", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

BYTES_BF16 = 2


def lines_of(cases, x_name):
    """{path: [(x, case)]}, by x."""
    lines = {}
    for case in cases:
        lines.setdefault(case["path"], []).append((case[x_name], case))
    return {path: sorted(points, key=lambda p: p[0]) for path, points in lines.items()}


def median(values):
    values = sorted(values)
    return values[len(values) // 2]


def draw_roofs(axes, lines, read_rate):
    """One dashed line per peak instruction, one dotted for the bytes of the smallest weight."""
    roofs = {}
    for points in lines.values():
        for x, case in points:
            roofs.setdefault(case["peak_instruction"], {})[x] = case
    for name, by_x in sorted(roofs.items()):
        peak = median([case["peak"] for case in by_x.values()])
        xs = sorted(by_x)
        axes.plot(xs, [1e3 * by_x[x]["operations"] / peak for x in xs], "--", lw=0.8, color="gray")
        axes.annotate(f"{name}: {peak / 1e9:.0f} Gop/s", (xs[-1], 1e3 * by_x[xs[-1]]["operations"] / peak),
                      fontsize=7, color="gray", ha="right", va="top")  # fmt: skip
    cheapest = min((points for points in lines.values()), key=lambda points: points[0][1]["bytes"])
    if cheapest[0][1]["bytes"] == 0:
        return
    xs = [x for x, _ in cheapest]
    bytes_of = lambda case: case["bytes"] + BYTES_BF16 * case["m"] * (case["n"] + case["k"])  # noqa: E731
    axes.plot(xs, [1e3 * bytes_of(case) / read_rate for _, case in cheapest], ":", lw=0.8, color="gray")
    axes.annotate(f"memory: {read_rate / 1e9:.0f} GB/s", (xs[0], 1e3 * bytes_of(cheapest[0][1]) / read_rate), fontsize=7, color="gray", va="bottom")


def draw(cases, x_name, title, x_label, read_rate, file):
    lines = lines_of(cases, x_name)
    if not lines:
        return
    figure, axes = plt.subplots(figsize=(7, 4.6))
    for path, points in lines.items():
        axes.plot([x for x, _ in points], [1e3 * case["seconds"] for _, case in points], "o-", ms=2.5, lw=1.1, label=path)
    draw_roofs(axes, lines, read_rate)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel(x_label)
    axes.set_ylabel("ms per call, median")
    axes.set_title(title, fontsize=10)
    axes.grid(True, which="major", lw=0.3)
    axes.legend(fontsize=7, ncol=2)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    print(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", nargs="+", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/images"))
    options = parser.parse_args()
    documents = [json.loads(file.read_text()) for file in options.json]
    cases = [c for d in documents for c in d["cases"] if c["part"] == "whole" and c["threads"] == options.threads]
    read_rate = median([d["memory_read"][options.threads - 1] for d in documents])
    options.out.mkdir(parents=True, exist_ok=True)
    threads = f"{options.threads} thread" + ("s" if options.threads > 1 else "")
    draw([c for c in cases if c["set"] == "rows"], "m", f"Linear, n = k = 3072, {threads}", "rows m", read_rate,
         options.out / "time_against_rows.svg")  # fmt: skip
    draw([c for c in cases if c["set"] == "tokens"], "m", f"Attention, 4 heads of 128, {threads}", "tokens s", read_rate,
         options.out / "time_against_tokens.svg")  # fmt: skip


if __name__ == "__main__":
    main()
