#!/usr/bin/env python3
"""Runs the code blocks of the documents as written, in order, in a fresh copy of the tree.

    readme_test.py [--copy FOLDER]

FOLDER is where the copy is made and stays; a copy that is there is used as it is. Without it, the
copy is in a temporary folder. Python blocks run with what `.ci/install-deps --torch` installs; the
copy uses the environment of this tree if it has one. blocks.py says what is not run.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import blocks

ROOT = Path(__file__).resolve().parents[2]
GIVEN = Path(__file__).resolve().parent / "given"


spec = importlib.util.spec_from_file_location("check_tree", ROOT / ".ci" / "check-tree.py")
check_tree = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_tree)


def documents():
    """README.md first: its quickstart builds what the others use."""
    return sorted((name for name in check_tree.tree_files(ROOT)
                   if Path(name).name in ("README.md", "CONTRIBUTING.md")),
                  key=lambda name: (name != "README.md", name))


def copy_tree(folder):
    """What a clone of this tree has, with what is not committed yet."""
    for name in check_tree.tree_files(ROOT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    # The environment, but for the file in it that has the folder of the tree.
    if (ROOT / ".venv").is_dir():
        (folder / ".venv").mkdir()
        for entry in (ROOT / ".venv").resolve().iterdir():
            if entry.name != "calibatt.env":
                (folder / ".venv" / entry.name).symlink_to(entry)


class Session:
    """A shell that is given the blocks, and the other languages beside it."""

    def __init__(self, tree, scratch):
        self.tree, self.scratch = tree, scratch
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith(("CALIBATT_", "PYTHON")) and name != "VIRTUAL_ENV"}
        # Its own cache of kernels; `calibatt cache clear` is one of the blocks.
        self.environment.update(XDG_CACHE_HOME=str(scratch / "cache"), PYTHONDONTWRITEBYTECODE="1",
                                CCACHE_DIR=ccache_folder(), CCACHE_BASEDIR=str(tree.parent))

    def run(self, block):
        """(exit code, output) of a block."""
        before = "".join((GIVEN / name).read_text() for name in block.given if name.endswith(".sh"))
        commands = getattr(self, block.language)(block)
        state = self.scratch / "environment"
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", f"{before}\n{commands}\nenv -0 >{state}"],
                              cwd=self.tree, env=self.environment, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if block.language == "sh" and done.returncode == 0:
            self.environment = dict(entry.split("=", 1) for entry in state.read_text().split("\0") if "=" in entry)
        return done.returncode, done.stdout

    def sh(self, block):
        return block.text

    transcript = sh

    def python(self, block):
        before = [(GIVEN / name).read_text() for name in block.given if name.endswith(".py")]
        file = self.scratch / "block.py"
        file.write_text("".join(before) + block.text)
        return f"PYTHONPATH=runtime/python .venv/bin/python {file}"

    def c(self, block):
        """The block inside a function of the given program, which includes it."""
        (self.scratch / "block.h").write_text(block.text)
        source, = (GIVEN / name for name in block.given if name.endswith(".c"))
        return (f"cc -std=c11 -Wall -Werror -I{self.scratch} -Iruntime/include {source} -Lbuild/lib -lcalibatt "
                f"-Wl,-rpath,$PWD/build/lib -o {self.scratch}/program\n{self.scratch}/program")

    def cmake(self, block):
        """The block as a part of the given project, which includes it."""
        project = self.scratch / "project"
        shutil.rmtree(project, ignore_errors=True)
        folder, = (GIVEN / name for name in block.given if (GIVEN / name).is_dir())
        shutil.copytree(folder, project)
        (project / "block.cmake").write_text(block.text)
        return (f"cmake -S {project} -B {project}/build -DCMAKE_PREFIX_PATH=$PWD/out/calibatt -DTREE=$PWD\n"
                f"cmake --build {project}/build")


def ccache_folder():
    return os.environ.get("CCACHE_DIR", str(Path.home() / ".cache" / "ccache"))


def run_documents(tree, scratch):
    failed = []
    session = Session(tree, scratch)  # one for all: who reads the others has read README.md
    for name in documents():
        for block in blocks.read(tree, name):
            if block.not_run:
                print(f"{block}: not run: {block.not_run}", flush=True)
                continue
            started = time.monotonic()
            code, output = session.run(block)
            took = time.monotonic() - started
            print(f"{block}: {f'exit code {code}' if code else 'ok'}, {took:.1f} s", flush=True)
            if code:
                failed.append(block)
                print(block.text + "-" * 8 + "\n" + output[-6000:], flush=True)
    print(f"{len(failed)} blocks failed: {', '.join(map(str, failed))}" if failed else "passed")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copy", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="calibatt-readme-") as temporary:
        tree = (arguments.copy or Path(temporary, "calibatt")).resolve()
        scratch = Path(temporary, "scratch")
        scratch.mkdir()
        if not tree.exists():
            tree.mkdir(parents=True)
            copy_tree(tree)
        return run_documents(tree, scratch)


if __name__ == "__main__":
    sys.exit(main())
