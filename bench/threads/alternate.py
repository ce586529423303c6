#!/usr/bin/env python3
"""Times a linear of ours alone and in turns with torch operations, on oneTBB and on OpenMP.

    cmake --build --preset release --target mezzotint_threads_onetbb mezzotint_threads_openmp
    python bench/threads/alternate.py --build build/release [--json FILE]

torch runs on OpenMP: on libgomp, whose threads wait for the next parallel region by spinning. A library
that was linked with libgomp.so.1 gets the one that torch brought, and with it torch's threads. Each way
runs in a process of its own:
  onetbb      as the library is
  openmp      bench/threads/parallel_for_openmp.cc
  ... passive the same with OMP_WAIT_POLICY=passive: waiting threads sleep
"""

import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

SHAPES = [(1, 3072, 3072), (16, 3072, 3072), (256, 3072, 3072), (1024, 3072, 3072)]
WAYS = ["onetbb", "onetbb passive", "openmp", "openmp passive"]
SECONDS = 0.5  # of each measurement


def median_us(action, before=None):
    """Of `action`; `before` runs ahead of every call and is not counted."""
    samples, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(samples) < 5:
        if before:
            before()
        start = time.perf_counter()
        action()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples) * 1e6


def load(way, build):
    library = ctypes.CDLL(str(build / f"libmezzotint_threads_{way.split()[0]}.so"))
    library.linear_create.restype = ctypes.c_void_p
    library.linear_create.argtypes = [ctypes.c_int64] * 3 + [ctypes.c_int]
    library.linear_run.argtypes = [ctypes.c_void_p]
    return library


def measure(way, build, threads):
    import torch  # ahead of ours, which then finds its libgomp

    torch.set_num_threads(threads)
    library = load(way, build)
    results = []
    for m, n, k in SHAPES:
        handle = library.linear_create(m, n, k, threads)
        ours = lambda: library.linear_run(handle)  # noqa: E731
        hidden = torch.randn(1024, 3072)
        theirs = lambda: torch.nn.functional.gelu(hidden)  # noqa: E731
        row = {"way": way, "m": m, "n": n, "k": k, "threads": threads}
        row["alone_us"] = median_us(ours)
        row["after_torch_us"] = median_us(ours, before=theirs)
        row["torch_alone_us"] = median_us(theirs)
        row["torch_after_ours_us"] = median_us(theirs, before=ours)
        results.append(row)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help="this one alone, as JSON lines (for child processes)")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.build.resolve(), options.threads)))
        return
    rows = []
    for way in WAYS:
        environment = dict(os.environ)
        if "passive" in way:
            environment["OMP_WAIT_POLICY"] = "passive"
        command = [sys.executable, __file__, "--way", way, "--build", str(options.build), "--threads", str(options.threads)]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        rows += json.loads(done.stdout)
        for row in rows[-len(SHAPES) :]:
            slow = row["after_torch_us"] / row["alone_us"]
            print(f"{way:15} m {row['m']:5}  alone {row['alone_us']:8.0f} us  after torch {row['after_torch_us']:8.0f} us ({slow:4.2f} x)  "
                  f"torch alone {row['torch_alone_us']:7.0f} us  after ours {row['torch_after_ours_us']:7.0f} us", flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
