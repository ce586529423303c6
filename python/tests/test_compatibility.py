"""Every difference from upstream that docs/compatibility.md lists for Python names its tests."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parents[1] / "docs" / "compatibility.md"


def rows():
    """Subject and the cell with the tests, of the table under "Python"."""
    section = DOCUMENT.read_text().partition("\n## Python\n")[2]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return [(cells[0], cells[-1]) for cells in table[2:]]


def named_tests(cell):
    """(file, name or beginning of it...) of "test_a: `x`, `y...`; test_b: `z`"."""
    for part in cell.split("; "):
        file, _, names = part.partition(": ")
        for name in re.findall("`([^`]+)`", names):
            yield file, name


@pytest.mark.parametrize(("subject", "cell"), rows(), ids=lambda text: text[:40])
def test_a_row_names_tests_that_exist(subject, cell):
    named = list(named_tests(cell))
    assert named, f"{subject}: no test"
    for file, name in named:
        functions = re.findall(r"^def test_(\w+)\(", (TESTS / f"{file}.py").read_text(), re.M)
        exact, beginning = name, name.removesuffix("...")
        found = [f for f in functions if f == exact or (name != beginning and f.startswith(beginning))]
        assert found, f"{subject}: {file} has no test_{name}"


def test_the_table_is_read():
    assert len(rows()) > 25
    assert [list(named_tests(cell)) for _, cell in rows()].count([]) == 0
