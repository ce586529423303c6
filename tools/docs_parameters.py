"""For mkdocs: our docstrings' parameters as definition lists.

    name, other
        What it is.
"""

import re

from griffe import Extension, Object

_PARAMETER = re.compile(r"^(?P<names>\w+(?:, \w+)*)\n(?P<text>(?: {4}\S.*\n?)+)", re.MULTILINE)


def as_definition(match: re.Match) -> str:
    lines = match["text"].rstrip("\n").split("\n")
    return "\n".join([f"`{match['names']}`", ":   " + lines[0].strip(), *lines[1:]]) + "\n\n"


class Parameters(Extension):
    def on_object(self, *, obj: Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _PARAMETER.sub(as_definition, obj.docstring.value)
