#!/usr/bin/env python3
"""What is to run on other Linux machines needs no newer glibc and libgcc_s than the README says.

usage: glibc_floor_test.py READELF README FILE...
"""

import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

READELF, README, *FILES = sys.argv[1:]
# What is built on a newer system needs that one's: the README promises it of Debian 12.
BUILT_BY = (2, 36)
# libgcc_s is at least as old as the compiler of the oldest system with such a glibc, RHEL 9: GCC 11.
LIBGCC_FLOOR = (11,)


def number(version):
    return tuple(map(int, version.split(".")))


def glibc_floor():
    stated = set(re.findall(r"glibc (\d+\.\d+)", Path(README).read_text()))
    assert len(stated) == 1, f"{README} names one least glibc, not {sorted(stated)}"
    return number(stated.pop())


def needed(file):
    """(symbol, GLIBC or GCC or ..., version) of the dynamic symbols that others have to define."""
    shown = subprocess.run([READELF, "--dyn-syms", "--wide", file], check=True, capture_output=True,
                           text=True)
    return [(name, kind, version) for name, kind, version in
            re.findall(r" UND (\w+)@([A-Z]+)_(\S+)", shown.stdout)]


class GlibcFloorTest(unittest.TestCase):
    @unittest.skipIf(number(os.confstr("CS_GNU_LIBC_VERSION").split()[1]) > BUILT_BY,
                     "newer than Debian 12")
    def test_no_symbol_is_newer_than_the_stated_glibc(self):
        floors = {"GLIBC": glibc_floor(), "GCC": LIBGCC_FLOOR}
        for file in FILES:
            symbols = needed(file)
            self.assertGreater(len(symbols), 10, file)
            for name, kind, version in symbols:
                with self.subTest(file=Path(file).name, symbol=f"{name}@{kind}_{version}"):
                    self.assertIn(kind, floors)
                    # GLIBC_PRIVATE and the like are for glibc's own libraries.
                    self.assertRegex(version, r"^\d+(\.\d+)*$")
                    self.assertLessEqual(number(version), floors[kind])


unittest.main(argv=sys.argv[:1], verbosity=2)
