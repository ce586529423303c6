"""pytest: tools/compare_bench.py on runs that differ by known amounts."""

import json
import pathlib
import stat
import subprocess
import sys

TOOL = pathlib.Path(__file__).with_name("compare_bench.py")


def case(seconds, peak=100.0, jitter=0.0, path="int8"):
    samples = [seconds * (1 + jitter * step) for step in (-2, -1, 0, 1, 2)]
    return {"engine": "mezzotint", "path": path, "part": "whole", "set": "big", "m": 4, "n": 8, "k": 16,
            "threads": 1, "cold": False, "seconds": seconds, "samples": samples, "peak": peak}  # fmt: skip


def write(folder, name, cases):
    (folder / name).write_text(json.dumps({"cases": cases}))
    return str(folder / name)


def compare(*arguments):
    return subprocess.run([sys.executable, str(TOOL), *arguments], capture_output=True, text=True)


def test_a_slower_case_fails(tmp_path):
    old = write(tmp_path, "old.json", [case(1.0), case(1.0, path="int4")])
    result = compare(old, write(tmp_path, "new.json", [case(1.1), case(1.0, path="int4")]))
    assert result.returncode == 1
    assert "2 cases, 1 slower" in result.stdout


def test_a_difference_within_the_noise_passes(tmp_path):
    old = write(tmp_path, "old.json", [case(1.0, jitter=0.05)])
    result = compare(old, write(tmp_path, "new.json", [case(1.1, jitter=0.05)]))
    assert result.returncode == 0, result.stdout


def test_a_slower_machine_is_no_change(tmp_path):
    old = write(tmp_path, "old.json", [case(1.0, peak=100.0)])
    result = compare(old, write(tmp_path, "new.json", [case(2.0, peak=50.0)]))
    assert result.returncode == 0 and "same" in result.stdout


def test_runs_without_a_common_case_are_an_error(tmp_path):
    old = write(tmp_path, "old.json", [case(1.0)])
    result = compare(old, write(tmp_path, "new.json", [case(1.0, path="int4")]))
    assert result.returncode == 1 and "no case in common" in result.stderr


def test_programs_are_run_in_turns(tmp_path):
    def program(name, seconds):
        text = json.dumps({"cases": [case(seconds)]})
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/log\n[ $1 = --path ] || exit 9\ncat > $4 <<'E'\n{text}\nE\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return str(file)

    result = compare(program("old", 1.0), program("new", 0.5), "--", "--path", "int8")
    assert result.returncode == 0, result.stderr
    assert "faster" in result.stdout
    assert (tmp_path / "log").read_text().split() == ["old", "new"] * 3
