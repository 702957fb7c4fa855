#!/usr/bin/env python3
"""Checks the source tree: layers, file length, names, top level.

    check-tree.py [--root DIR] [layers|length|names|toplevel ...]

Prints one line a finding and exits 1 where there is any. Needs only Python.
"""

import argparse
import pathlib
import re
import subprocess
import sys

# Which folder may include which (a folder may include itself). The longest
# matching folder owns a file.
LAYERS = {
    "runtime/format": [],
    "calib_profiles": ["runtime/format"],
    "ir": [],
    "codegen": ["ir", "runtime/format"],
    "compiler": ["calib_profiles", "ir", "codegen", "runtime/format", "runtime/usage"],
    "runtime": ["runtime/format"],
    "runtime/usage": [],
    "runtime/tools": ["runtime", "runtime/format", "runtime/usage", "calib_profiles"],
    "examples": ["runtime/include"],
    "test": None,  # everything
}
USES_LLVM = {"ir", "codegen", "compiler", "test"}
USES_CUDA = {"codegen", "test", "examples"}
LLVM_HEADER = re.compile(r"(mlir|llvm|llvm-c|mlir-c|clang)/")
CUDA_HEADER = re.compile(r"(cuda|nvrtc|cublas|cudnn|nvFatbin|nvJitLink)[A-Za-z0-9_]*\.h")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)

SOURCE = {".h", ".cpp", ".c", ".cuh", ".cu", ".td", ".py", ".sh", ".cmake", ".mlir", ".inc"}
MAX_LINES = 700
LONG_REASON = "long because:"  # in a comment of the first ten lines

TOP_LEVEL = {"CMakeLists.txt", "compiler", "ir", "codegen", "runtime", "calib_profiles", "examples", "findings",
             "test", "README.md", "CMakePresets.json", "CONTRIBUTING.md", "LICENSE"}
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "manager", "misc"}
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")


def tree_files(root):
    """Files of the tree that git does not ignore; without git, every file."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard"],
                            capture_output=True, text=True)
    if listed.returncode == 0:
        names = listed.stdout.splitlines()
    else:
        names = [str(p.relative_to(root)) for p in pathlib.Path(root).rglob("*") if p.is_file()]
    return sorted(n for n in set(names) if (root / n).is_file())


def layer_of(name):
    owners = [layer for layer in LAYERS if name.startswith(layer + "/")]
    return max(owners, key=len) if owners else None


def check_layers(root, files):
    for name in files:
        layer = layer_of(name)
        if layer is None or pathlib.Path(name).suffix not in SOURCE:
            continue
        text = (root / name).read_text(encoding="utf-8", errors="replace")
        for match in INCLUDE.finditer(text):
            bracket, header = match.groups()
            line = text.count("\n", 0, match.start(2)) + 1
            where = f"{name}:{line}"
            if LLVM_HEADER.match(header):
                if layer not in USES_LLVM:
                    yield f"{where}: {layer} must not include LLVM or MLIR ({header})"
            elif CUDA_HEADER.fullmatch(header.rsplit("/", 1)[-1]) and bracket == "<":
                if layer not in USES_CUDA:
                    yield f"{where}: {layer} must not include CUDA headers ({header})"
            elif bracket == '"':
                # A header beside the file is its own layer's; others are named from the root.
                target = layer_of(header) if not (root / name).parent.joinpath(header).is_file() else layer
                allowed = LAYERS[layer]
                if target is None or target == layer or allowed is None:
                    continue
                if not any(target == to or header.startswith(to + "/") for to in allowed):
                    yield f"{where}: {layer} must not include {target} ({header})"


def check_length(root, files):
    for name in files:
        path = root / name
        if path.suffix not in SOURCE and path.name != "CMakeLists.txt":
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if len(lines) > MAX_LINES and not any(LONG_REASON in line for line in lines[:10]):
            yield (f"{name}: {len(lines)} lines, at most {MAX_LINES}; split it, or write "
                   f"\"{LONG_REASON} ...\" in its first ten lines")


def check_names(root, files):
    for name in files:
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
        vague = sorted({w.lower() for w in words} & VAGUE_NAMES)
        if vague:
            yield f"{name}: the name says nothing ({', '.join(vague)}); name what the file is about"
        path = root / name
        if path.suffix in SOURCE:
            text = path.read_text(encoding="utf-8", errors="replace")
            for number, line in enumerate(text.splitlines(), 1):
                if UNFINISHED.search(line):
                    yield f"{name}:{number}: unfinished: {line.strip()[:80]}"


def check_toplevel(root, files):
    for entry in sorted({name.split("/", 1)[0] for name in files}):
        if entry not in TOP_LEVEL and not entry.startswith("."):
            yield f"{entry}: not among the entries of the top level"


CHECKS = {"layers": check_layers, "length": check_length, "names": check_names,
          "toplevel": check_toplevel}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=", ".join(CHECKS))
    arguments = parser.parse_args()
    unknown = [c for c in arguments.checks if c not in CHECKS]
    if unknown:
        parser.error(f"unknown check {unknown[0]} (known: {', '.join(CHECKS)})")
    files = tree_files(arguments.root)
    if not files:
        parser.error(f"{arguments.root}: no files to check")
    findings = [f for check in arguments.checks or CHECKS
                for f in CHECKS[check](arguments.root, files)]
    print("\n".join(findings), end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
