#!/usr/bin/env python3
"""A library exports the functions of its header and nothing else, and needs only what every
Linux has.

usage: exported_symbols_test.py READELF LIBRARY HEADER
"""

import re
import subprocess
import sys
import unittest
from pathlib import Path

READELF, LIBRARY, HEADER = sys.argv[1:]


def readelf(option):
    shown = subprocess.run([READELF, option, "--wide", LIBRARY], check=True, capture_output=True,
                           text=True)
    return shown.stdout.splitlines()


def declared():
    """Functions of the header: what CALIBATT_API stands before."""
    text = re.sub(r"/\*.*?\*/", "", Path(HEADER).read_text(), flags=re.S)
    text = re.sub(r"^#.*$", "", text, flags=re.M)
    return sorted(re.findall(r"CALIBATT_API\b[^;(]*?(\w+)\s*\(", text))


def exported():
    """(name, kind) of the dynamic symbols that the library defines."""
    # Num: Value Size Type Bind Vis Ndx Name
    rows = (line.split() for line in readelf("--dyn-syms"))
    return sorted((row[7].split("@")[0], row[3]) for row in rows
                  if len(row) == 8 and row[0].rstrip(":").isdigit() and row[6] != "UND")


class ExportedSymbolsTest(unittest.TestCase):
    def test_the_exports_are_the_functions_of_the_header(self):
        functions = declared()
        self.assertGreater(len(functions), 10)
        self.assertEqual([(name, "FUNC") for name in functions], exported())

    def test_the_name_that_programs_record_has_the_abi_version(self):
        names = [line for line in readelf("--dynamic") if "(SONAME)" in line]
        self.assertEqual(len(names), 1)
        stem = Path(LIBRARY).name.split(".so")[0]
        self.assertRegex(names[0], rf"\[{stem}\.so\.\d+\]")

    def test_it_needs_neither_cuda_nor_llvm_nor_libstdcxx(self):
        needed = [re.search(r"\[(.*)\]", line)[1] for line in readelf("--dynamic")
                  if "(NEEDED)" in line]
        self.assertTrue(any(name.startswith("libc.so") for name in needed), needed)
        for name in needed:
            # A sanitizer's runtime stands beside the C library in the presets that have one.
            self.assertRegex(name, r"^(libc|libgcc_s|libm|libdl|libpthread|librt|lib[a-z]+san|ld-linux.*)\.so")


unittest.main(argv=sys.argv[:1], verbosity=2)
