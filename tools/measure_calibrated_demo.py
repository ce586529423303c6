#!/usr/bin/env python3
"""What statistics are worth on the outlier variant of the demo model: PSNR to the float images.

    python tools/measure_calibrated_demo.py --tool build/release/bin/mezzotint --folder W [--guidance 4.5]

Makes the variant as `mezzotint demo` does, collects statistics of 8 prompts, quantizes the linears of the
blocks with and without them and compares the images of 16 prompts from other noise; 8 of the prompts were
not collected. Exits with 1 where a form is below its bar. Only the standard library.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
COLLECTED, COMPARED, OTHER_NOISE = 8, 16, 1000
STATS = "--stats"  # stands for the option with its file

FORMS = {  # folder: options of quantize
    "w8a8_dynamic": ["--algo", "w8a8_dynamic"],
    "w8a8_dynamic, smoothed": ["--algo", "w8a8_dynamic", STATS],
    "w8a8": ["--algo", "w8a8", STATS],
    "w8a8_timestep": ["--algo", "w8a8_timestep", STATS],
    "w8a8_timestep, all static": ["--algo", "w8a8_timestep", STATS, "--static-tolerance", "1000"],
    "w8a8, not smoothed": ["--algo", "w8a8", STATS, "--smooth", "none"],
    "w8a8_timestep, all static, not smoothed": [
        "--algo", "w8a8_timestep", STATS, "--static-tolerance", "1000", "--smooth", "none"],
    "w4a16": ["--algo", "w4a16"],
    "w4a16_gptq": ["--algo", "w4a16_gptq", STATS],
    "w4a16_awq": ["--algo", "w4a16_awq", STATS],
    "w4a16_awq, gptq": ["--algo", "w4a16_awq", STATS, "--gptq"],
    "w4a4_mxfp4": ["--algo", "w4a4_mxfp4"],
    "w4a4_mxfp4, smoothed": ["--algo", "w4a4_mxfp4", STATS],
    "w4a4_mxfp4_svd, smoothed": ["--algo", "w4a4_mxfp4_svd", STATS],
    "w4a4_mxfp4_svd, smoothed, gptq": ["--algo", "w4a4_mxfp4_svd", STATS, "--gptq"],
}
BARS = [  # form, at least so many dB above another form, or above none
    ("w8a8_dynamic, smoothed", 45, None),
    ("w8a8_timestep", 3, "w8a8"),
    ("w4a16_gptq", 3, "w4a16"),
    ("w4a16_awq", 3, "w4a16"),
    ("w4a4_mxfp4_svd, smoothed", 2, "w4a4_mxfp4"),
]


def run(command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return result.stdout


def make_variant(tool, folder: pathlib.Path) -> pathlib.Path:
    """A pipeline folder like demo/, whose transformer has outlier channels."""
    made, variant = folder / "made", folder / "outlier"
    run([tool, "demo", "-o", made, "--images", "1", "--steps", "1", "-q"])
    ignore = shutil.ignore_patterns("transformer", "floors.json", "samples.png", "README.md")
    shutil.copytree(REPOSITORY / "demo", variant, ignore=ignore)
    shutil.move(made / "outlier_model", variant / "transformer")
    shutil.rmtree(made)
    return variant


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="an empty or new one")
    parser.add_argument("--guidance", type=float, default=2.0, help="of floors.json; generate's is 4.5")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    tool, folder = arguments.tool.resolve(), arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    model = make_variant(tool, folder)
    sampling = ["--steps", arguments.steps, "--guidance", arguments.guidance]
    stats = folder / "stats.safetensors"
    run([tool, "collect", model, "-o", stats, "--prompts", COLLECTED, "--gram", "*", *sampling])
    compare = [tool, "compare", model, "-o", folder / "report.html", "--prompts", COMPARED, "--seed", OTHER_NOISE]
    names = {}
    for name, options in FORMS.items():
        out = folder / name.replace(", ", "-").replace(" ", "_")
        names[str(out)] = name
        given = [part for option in options for part in ([STATS, stats] if option == STATS else [option])]
        run([tool, "quantize", model, "-o", out, "--exclude", "*.norm*.linear", *given])
        compare += ["--quant", out]
    report = json.loads(run([*compare, *sampling, "--json"]))
    psnr = {names[form["source"]]: form["psnr_db"] for form in report["forms"]}
    for name, value in psnr.items():
        print(f"{name:42} {value:5.1f} dB")
    missed = 0
    for name, bar, base in BARS:
        value = psnr[name] - (psnr[base] if base else 0)
        missed += value < bar
        than = f" above {base}" if base else ""
        print(f"{'missed' if value < bar else 'met   '}  {name}{than}: {value:.1f} dB, bar {bar}")
    if arguments.json:
        arguments.json.write_text(json.dumps(psnr, indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
