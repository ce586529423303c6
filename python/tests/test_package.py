"""What the installed package brings along."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import mezzotint

PACKAGE = Path(mezzotint.__file__).parent


def test_it_is_typed():
    assert (PACKAGE / "py.typed").exists()
    interface = (PACKAGE / "_core.pyi").read_text()
    for name in ("class Layer", "class BoundLinear", "class Error", "def load_model"):
        assert name in interface


def test_the_command_line_tool_is_inside():
    for command in ([sys.executable, "-m", "mezzotint"], [Path(sys.executable).with_name("mezzotint")]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert mezzotint.__version__ in done.stdout
        wrong = subprocess.run([*command, "inspekt"], capture_output=True, text=True)
        assert wrong.returncode == 2 and "error" in wrong.stderr


def needed(path):
    lines = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    return {line.split("[")[1].rstrip("]") for line in lines.splitlines() if "(NEEDED)" in line}


def test_nothing_but_the_system_is_needed_beside_it():
    system = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"}
    (extension,) = PACKAGE.glob("_core*.so")
    (bundled,) = PACKAGE.glob("libtbb.so.*")
    for binary in (extension, PACKAGE / "bin" / "mezzotint", bundled):
        assert needed(binary) - system - {bundled.name} == set(), binary
    maps = "import mezzotint; print(open('/proc/self/maps').read())"
    loaded = subprocess.run([sys.executable, "-c", maps], capture_output=True, text=True).stdout
    assert str(bundled) in loaded


def test_the_extension_exports_its_init_function_only():
    (extension,) = PACKAGE.glob("_core*.so")
    lines = subprocess.run(
        ["nm", "-D", "--defined-only", extension], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    names = {line.split()[-1] for line in lines}
    assert names == {"PyInit__core"}


def test_torch_is_optional():
    requires = importlib.metadata.requires("mezzotint")
    assert [line for line in requires if "extra" not in line] == ["numpy>=1.24"]
    code = """
import sys
sys.modules["torch"] = None
import mezzotint
try:
    mezzotint.quantize
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "torch" in done.stdout, done.stderr
