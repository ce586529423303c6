"""docs/ as a site, without building it: names, links and docstrings that ./x docs site needs."""

import importlib
import inspect
import re
from pathlib import Path

import mezzotint

DOCS = Path(__file__).parents[2] / "docs"
SPEAKING = {"model", "name", "other_names", "reference", "map", "compat", "group_size"}
REFERENCED = re.findall(r"^::: ([\w.]+)$", (DOCS / "api.md").read_text(), re.MULTILINE)


def test_the_reference_names_things_that_are_there_and_explained():
    assert len(REFERENCED) > 20
    for path in REFERENCED:
        module, _, name = path.rpartition(".")
        thing = getattr(importlib.import_module(module), name)
        assert inspect.getdoc(thing), path
        if inspect.isfunction(thing):
            undocumented = [p for p in inspect.signature(thing).parameters if p not in thing.__doc__]
            assert set(undocumented) <= SPEAKING, path


def test_and_every_public_name_of_the_package():
    named = {path.rpartition(".")[2] for path in REFERENCED} | {"Error"}
    assert set(mezzotint.__all__) - named <= {"Context", "__version__"}


def test_links_between_pages():
    count = 0
    for page in DOCS.glob("**/*.md"):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)
            count += 1
    assert count >= 15
    navigation = re.findall(r": ([\w-]+\.md)$", (DOCS.parent / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(navigation) == len(set(navigation)) > 10
    assert all((DOCS / page).exists() for page in navigation)
