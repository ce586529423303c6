#!/usr/bin/env python3
"""Compares two runs of ./x bench, with the noise of this machine measured on the spot.

    tools/compare_bench.py OLD.json NEW.json
    tools/compare_bench.py OLD_PROGRAM NEW_PROGRAM -- --path int8 --set big --threads 1

Given two programs it runs them in turns, OLD NEW OLD NEW OLD NEW, and what OLD differs from itself
between its runs is the noise. Given two files, the noise of a case is the spread of its passes. A
case counts as changed when its time differs by more than the noise, and by 2 % at least. Exit code
1: something is slower. Shares of the peak are compared where both runs measured one, so that a
machine that slows down does not look like a change.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

LEAST_NOISE = 0.02
ROUNDS = 3


def key(case):
    names = ("engine", "path", "part", "set", "m", "n", "k", "threads", "cold")
    return tuple(case.get(name) for name in names)


def cost(case):
    """Seconds, in units of the peak's operations where the peak was measured."""
    return case["seconds"] * (case.get("peak") or 1.0)


def spread(case):
    """Half of the distance between the quartiles of the passes, relative to their median."""
    samples = case.get("samples", [])
    if len(samples) < 4:
        return LEAST_NOISE
    quartiles = statistics.quantiles(samples, n=4)
    return (quartiles[2] - quartiles[0]) / 2 / statistics.median(samples)


def read_cases(file):
    return {key(case): case for case in json.loads(pathlib.Path(file).read_text())["cases"]}


def run_program(program, arguments, folder, index):
    out = pathlib.Path(folder) / f"{index}.json"
    subprocess.run([program, *arguments, "--json", str(out)], check=True, stdout=subprocess.DEVNULL)
    return read_cases(out)


def alternate(old, new, arguments):
    """Per case: the costs of each program's runs."""
    runs = {"old": [], "new": []}
    with tempfile.TemporaryDirectory() as folder:
        for index in range(ROUNDS):
            runs["old"].append(run_program(old, arguments, folder, 2 * index))
            runs["new"].append(run_program(new, arguments, folder, 2 * index + 1))
    return runs


def from_programs(old, new, arguments):
    runs = alternate(old, new, arguments)
    for name in runs["old"][0]:
        if not all(name in run for run in runs["old"] + runs["new"]):
            continue
        before = [cost(run[name]) for run in runs["old"]]
        after = [cost(run[name]) for run in runs["new"]]
        middle = statistics.median(before)
        noise = max(abs(value / middle - 1) for value in before)
        yield name, statistics.median(after) / middle, noise


def from_files(old, new):
    before, after = read_cases(old), read_cases(new)
    for name in before:
        if name in after:
            noise = spread(before[name]) + spread(after[name])
            yield name, cost(after[name]) / cost(before[name]), noise


def title(name):
    engine, path, part, which, m, n, k, threads, _ = name
    return f"{which:6} {path:12} {part:8} {m}x{n}x{k} {threads} thr" + ("" if engine == "mezzotint" else f" {engine}")


def main():
    arguments = sys.argv[1:]
    rest = []
    if "--" in arguments:
        rest = arguments[arguments.index("--") + 1 :]
        arguments = arguments[: arguments.index("--")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    options = parser.parse_args(arguments)
    are_files = options.old.endswith(".json")
    pairs = list(from_files(options.old, options.new) if are_files else from_programs(options.old, options.new, rest))
    if not pairs:
        sys.exit("error: the two runs have no case in common")
    slower = 0
    for name, ratio, noise in pairs:
        band = max(LEAST_NOISE, noise)
        verdict = "same"
        if ratio > 1 + band:
            verdict, slower = "SLOWER", slower + 1
        elif ratio < 1 - band:
            verdict = "faster"
        print(f"{title(name):60} {ratio:6.3f} x the time  (noise {band:5.1%})  {verdict}")
    print(f"{len(pairs)} cases, {slower} slower")
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()
