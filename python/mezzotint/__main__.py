"""``python -m mezzotint``: the command line tool."""

import os
import sys
from pathlib import Path


def main() -> None:
    tool = Path(__file__).with_name("bin") / "mezzotint"
    os.execv(tool, ["mezzotint", *sys.argv[1:]])


if __name__ == "__main__":
    main()
