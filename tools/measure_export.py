#!/usr/bin/env python3
"""What `mezzotint quantize` takes for large files: peak memory, and bytes per second beside the disk's.

    python tools/measure_export.py --tool build/release/bin/mezzotint --folder W --random-gb 4
    python tools/measure_export.py --tool ... --folder W --random-gb 2 --shell-gb 40 --stop-after 90

Makes a safetensors file of linears of a 14-billion-parameter transformer: the first --random-gb gigabytes
are random, the rest up to --shell-gb is a hole that reads as zeros. Then, in one run: reads the random part
from the disk, asks a dry run how long quantizing takes in memory, quantizes, watching the journal, and does
the first two again, of which the better counts: other work on the machine only slows. The rate of the random
part is compared with the slower of the two. --stop-after ends a long run that many seconds later (the
journal keeps what is done). Everything is deleted at the end.

What is compared, precisely:
* disk: read() of the random part in pieces of 16 MiB, none of it in the page cache;
* in memory: `quantize --dry-run`, estimated_seconds. Codes and scales are made of the first 32 Mi weights of
  one layer of every K (64 MiB of BF16, more than caches hold), by as many threads as the run has; the best of
  three trials after one that reads them, scaled to all weights. Nothing else is in it: no reading, no look
  for NaN, no tensors of a file, no reading back, no errors of the weights, no hash, no writing. With
  --threads 1 the run does those beside, on a second processor;
* the run: from the start of the process to the journal's line of the last random tensor, with everything.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time

import numpy as np

# A block of Wan 2.2 14B: out, in.
LINEARS = [("q", 5120, 5120), ("k", 5120, 5120), ("v", 5120, 5120), ("o", 5120, 5120),
           ("ffn.0", 13824, 5120), ("ffn.2", 5120, 13824)]


def write_model(file: pathlib.Path, random_bytes: int, total_bytes: int) -> tuple[int, int]:
    """Returns how many bytes are random, and how many layers: whole ones."""
    header, end, random_end, random_layers, block = {}, 0, 0, 0, 0
    while end < total_bytes:
        for name, n, k in LINEARS:
            header[f"blocks.{block:03}.{name}.weight"] = {
                "dtype": "BF16", "shape": [n, k], "data_offsets": [end, end + 2 * n * k]}
            end += 2 * n * k
            if end <= random_bytes:
                random_end = end
                random_layers += 1
        block += 1
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(1)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        start = out.tell()
        for at in range(0, random_end, 1 << 26):
            count = min(1 << 26, random_end - at) // 2
            values = generator.standard_normal(count, dtype=np.float32) * 0.02
            out.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
        out.truncate(start + end)
        out.flush()
        os.fsync(out.fileno())
    return random_end, random_layers


def read_rate(file: pathlib.Path, count: int) -> float:
    """Bytes per second from the disk, not from the page cache."""
    descriptor = os.open(file, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    start, left = time.monotonic(), count
    while left > 0:
        left -= len(os.read(descriptor, min(left, 1 << 24)))
    seconds = time.monotonic() - start
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return count / seconds


def write_rate(file: pathlib.Path) -> float:
    """Bytes per second onto the disk: no part of the bar, but of what a whole run takes."""
    piece, count = os.urandom(1 << 24), 16
    start = time.monotonic()
    with file.open("wb") as out:
        for _ in range(count):
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    seconds = time.monotonic() - start
    file.unlink()
    return count * len(piece) / seconds


def memory_rate(command: list, all_bytes: int) -> tuple[float, int]:
    """Bytes per second of the quantizers, by the trial of a dry run, and the memory it plans."""
    plan = json.loads(subprocess.run([*command, "--dry-run", "--json"], capture_output=True, check=True).stdout)
    return all_bytes / plan["report"]["estimated_seconds"], plan["report"]["memory_bytes"]


def peak_memory(pid: int) -> int:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--random-gb", type=float, default=4)
    parser.add_argument("--shell-gb", type=float, default=0)
    parser.add_argument("--algo", default="w4a4_mxfp4")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--stop-after", type=float, default=3600)
    arguments = parser.parse_args()
    folder = arguments.folder / "measure_export"
    folder.mkdir(parents=True)
    try:
        measure(arguments, folder)
    finally:
        shutil.rmtree(folder)


def measure(arguments, folder: pathlib.Path):
    source, out = folder / "model.safetensors", folder / "out"
    random_bytes, random_layers = write_model(source, int(arguments.random_gb * 1e9),
                                              int(max(arguments.random_gb, arguments.shell_gb) * 1e9))
    all_bytes = source.stat().st_size
    command = [arguments.tool, "quantize", source, "-o", out, "--algo", arguments.algo, "--preset", "none",
               "--threads", arguments.threads]
    tensors = 2 * random_layers  # codes and scales
    disk = read_rate(source, random_bytes)
    in_memory, planned = memory_rate(command, all_bytes)
    used_before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done_at, peak, lines = None, 0, 0
    while process.poll() is None:
        try:
            peak = max(peak, peak_memory(process.pid))
            journal = next(out.glob(".partial/*.journal"))
            lines = journal.read_bytes().count(b"\n") - 1
        except (FileNotFoundError, StopIteration, ProcessLookupError):
            pass
        now = time.monotonic() - start
        if done_at is None and lines >= tensors:
            done_at = now
        if now > arguments.stop_after:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    total = time.monotonic() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode == 0:
        done_at = done_at or total
    if done_at is None:
        sys.exit(f"stopped after {total:.1f} s, before the random part was done: {lines} of {tensors} tensors")
    disk = max(disk, read_rate(source, random_bytes))
    in_memory = max(in_memory, memory_rate([*command, "--force"], all_bytes)[0])
    rate = random_bytes / done_at
    slower = min(disk, in_memory)
    print(f"source {all_bytes / 1e9:.1f} GB, of which random {random_bytes / 1e9:.2f} GB; {arguments.algo}, "
          f"{arguments.threads} threads")
    print(f"read from the disk        {disk / 1e9:6.3f} GB/s")
    print(f"quantized in memory       {in_memory / 1e9:6.3f} GB/s (trial of the dry run)")
    print(f"quantized, random part    {rate / 1e9:6.3f} GB/s = {rate / slower:.2f} of the slower")
    if process.returncode == 0:
        print(f"whole run                 {all_bytes / total / 1e9:6.3f} GB/s, last sync included; "
              f"the disk writes {write_rate(folder / 'written') / 1e9:.3f} GB/s")
    print(f"VmHWM {peak / 2**20:.0f} MiB (planned {planned / 2**20:.0f}); "
          f"ran {total:.1f} s, {lines} tensors, exit {process.returncode}; processors: "
          f"{used.ru_utime - used_before.ru_utime:.1f} s in the program, "
          f"{used.ru_stime - used_before.ru_stime:.1f} s in the system")


if __name__ == "__main__":
    sys.exit(main())
