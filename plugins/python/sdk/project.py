"""Builds and tests a plugin's project; its build.sh and test.sh call this.

`project.py build` leaves the component at build/NAME.wasm, and says in build/manifest.json which actions verify; the manifest is put into
the component by `runbook plugin build`, which wrote that file. `project.py test` runs the unit tests against the fake world.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

SDK = Path(__file__).resolve().parent
# As it lies in runbook's repository, and below vendor/runbook in a project.
WIT = SDK.parents[2] / "wit"
BUILD = Path("build")
MANIFEST = BUILD / "manifest.json"

MISSING = """componentize-py is missing: it makes a component of Python. In the project's folder:
  python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"""


def main() -> None:
    try:
        bindings()
        {"build": build, "test": test}[sys.argv[1]]()
    except FileNotFoundError as error:
        sys.exit(MISSING if error.filename == "componentize-py" else str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


def bindings() -> None:
    """What Python sees of the interfaces, for tests and editors."""
    shutil.rmtree(BUILD / "bindings", ignore_errors=True)
    componentize("bindings", str(BUILD / "bindings"))


def build() -> None:
    manifest = json.loads(MANIFEST.read_text())
    note_functions(manifest)
    MANIFEST.write_text(json.dumps(manifest))
    entry = BUILD / "entry"
    entry.mkdir(exist_ok=True)
    (entry / "runbook_entry.py").write_text(
        "from plugin import plugin\n"
        "from runbook_sdk.plugin import export\n\n"
        f"Action = export(plugin, {json.dumps(json.dumps(manifest))})\n"
    )
    paths = [argument for path in (entry, ".", SDK) for argument in ("-p", str(path))]
    componentize("componentize", *paths, "-o", str(BUILD / f"{manifest['name']}.wasm"), "runbook_entry")


def note_functions(manifest: dict) -> None:
    """Compares the actions with the functions that there are, and notes which of them verify."""
    there = json.loads(python("-m", "runbook_sdk.inspect", stdout=subprocess.PIPE).stdout)
    mistakes = []
    names = [action["name"] for action in manifest["action"]]
    for what, functions in there.items():
        mistakes += [
            f'@plugin.{what}("{name}"): plugin.toml has no such action' for name in functions if name not in names
        ]
    for action in manifest["action"]:
        name = action["name"]
        if name not in there["converge"]:
            mistakes.append(f'action "{name}" has no function: write one below @plugin.converge("{name}")')
        action["verifies"] = name in there["verify"]
    if mistakes:
        sys.exit("plugin.py:\n- " + "\n- ".join(mistakes))


def test() -> None:
    python("-m", "unittest")


def python(*arguments: str, **how) -> subprocess.CompletedProcess:
    """Runs Python with the project, the bindings and the SDK on its path."""
    path = os.pathsep.join(map(str, [".", BUILD / "bindings", SDK]))
    return subprocess.run([sys.executable, *arguments], env=os.environ | {"PYTHONPATH": path}, check=True, **how)


def componentize(*arguments: str) -> None:
    subprocess.run(["componentize-py", "-q", "-d", str(WIT), "-w", "plugin", *arguments], check=True)


if __name__ == "__main__":
    main()
