#!/usr/bin/env python3
"""The tables of docs/performance.md, as Markdown, from JSON of ./x bench: several runs become one table.

    python tools/bench_table.py int8.json mxfp4.json ... [--best]

A cell is the geometric mean over the shapes of a set of the share of the peak, in percent, then the
least shape, then the bar where there is one; bold where it is missed (the mean below the bar, or a
shape more than 7 points below). Medians of the passes; --best takes the best pass and the best peak.
"""

import argparse
import json
import math
import pathlib

SPREAD = 7
LINEAR = [("big", "big"), ("hot", "M = 16"), ("cold", "M = 1, cold")]
ATTENTION = [("s1024", "S = 1024"), ("s4608", "S = 4608")]


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def share(case, best):
    work = case["bytes"] if case["cold"] else case["operations"]
    seconds, peak = ("best_seconds", "best_peak") if best else ("seconds", "peak")
    return 100 * work / case[seconds] / case[peak] if case[peak] else 0


def cell(cases, bar, best):
    shares = [share(case, best) for case in cases]
    if not shares or min(shares) == 0:
        return ""
    mean, least = geometric_mean(shares), min(shares)
    text = f"{mean:.0f} ({least:.0f})"
    if not bar:
        return text
    met = mean >= bar and least >= bar - SPREAD
    return f"{text} / {bar:.0f}" if met else f"**{text} / {bar:.0f}**"


def table(cases, bars, sets, best):
    columns = [(which, title, threads) for which, title in sets for threads in (1, 2)]
    rows = []
    for path in dict.fromkeys(case["path"] for case in cases if any(case["set"] == which for which, _ in sets)):
        cells = []
        for which, _, threads in columns:
            chosen = [c for c in cases if (c["path"], c["set"], c["threads"]) == (path, which, threads)]
            cells.append(cell(chosen, bars.get(path, {}).get(which, [0, 0])[threads - 1], best))
        rows.append(f"| {path} | " + " | ".join(cells) + " |")
    if rows:
        print("| | " + " | ".join(f"{title}, {threads} thr" for _, title, threads in columns) + " |")
        print("|---|" + "---:|" * len(columns))
        print("\n".join(rows) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", nargs="+", type=pathlib.Path)
    parser.add_argument("--best", action="store_true")
    options = parser.parse_args()
    documents = [json.loads(file.read_text()) for file in options.json]
    cases = [case for document in documents for case in document["cases"] if case["part"] == "whole"]
    bars = next((document["bars"] for document in documents if "bars" in document), {})
    table(cases, bars, LINEAR, options.best)
    table(cases, bars, ATTENTION, options.best)


if __name__ == "__main__":
    main()
