#!/usr/bin/env python3
"""CalibAtt as a part of another project's build, by add_subdirectory and by FetchContent.

    subproject_test.py SubprojectTest     what configuring gives
    subproject_test.py SubprojectBuild    the libraries built and used: every source is compiled once more
"""

import os
import tempfile
import unittest
from pathlib import Path

from installing import HAS_COMPILER, SOURCE, VERSION, run, start

CMAKE = os.environ["CMAKE"]
PROJECT = Path(SOURCE, "test", "install", "subproject")
WAYS = ("add_subdirectory", "FetchContent")
RUNTIME_ALONE = ("-DCALIBATT_BUILD_COMPILER=OFF", "-DCALIBATT_BUILD_TOOLS=OFF")


class Project(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def configure(self, way, *options):
        build = self.folder / way
        run(CMAKE, "-S", PROJECT, "-B", build, "-G", os.environ["GENERATOR"], f"-DHOW={way}",
            f"-DCALIBATT_SOURCE={SOURCE}", *options)
        return build

    def check_parent(self, build):
        """What CalibAtt has no business to change or to add to."""
        for line in (build / "parent").read_text().splitlines():
            name, _, value = line.partition("=")
            self.assertEqual(value, "", name)
        cache = dict(line.split("=", 1) for line in (build / "CMakeCache.txt").read_text().splitlines()
                     if "=" in line)
        self.assertEqual(cache.get("CMAKE_BUILD_TYPE:STRING", ""), "")
        tests = run("ctest", "--test-dir", build, "-N")
        self.assertIn("Total Tests: 1\n", tests)
        return {name.split(":")[0] for name in cache}


class SubprojectTest(Project):
    @unittest.skipUnless(HAS_COMPILER, "built without the compiler")
    def test_all_of_it_configures_and_leaves_the_parent_as_it_is(self):
        for way in WAYS:
            with self.subTest(way):
                build = self.configure(way, f"-DPROFILE={self.folder}/p.calib.safetensors")
                self.check_parent(build)
                # What the compiler side generates, each from files of its own.
                run(CMAKE, "--build", build, "--target", "calibatt_sattn_tablegen",
                    "calibatt_passes_tablegen")
                # A package is made by the compiler of this build.
                if os.environ["GENERATOR"] == "Ninja":
                    inputs = run("ninja", "-C", build, "-t", "inputs", "packed").split()
                    self.assertTrue(any(name.endswith("/bin/calibatt-compile") for name in inputs))

    def test_its_tests_can_be_a_part_too(self):
        options = () if HAS_COMPILER else ("-DCALIBATT_BUILD_COMPILER=OFF",)
        self.configure("add_subdirectory", "-DCALIBATT_BUILD_TESTS=ON", *options)

    def test_tests_without_the_command_they_run_are_refused(self):
        done = start(CMAKE, "-S", SOURCE, "-B", self.folder / "build", "-DCALIBATT_BUILD_TOOLS=OFF")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("CALIBATT_BUILD_TESTS needs CALIBATT_BUILD_TOOLS", done.stderr)

    def test_the_libraries_alone_ask_only_for_what_they_use(self):
        for way in WAYS:
            with self.subTest(way):
                for name in self.check_parent(self.configure(way, *RUNTIME_ALONE)):
                    self.assertNotRegex(name, "PNG|CLI11|MLIR|doctest|Python3|_CCACHE")


class SubprojectBuild(Project):
    def test_a_program_uses_the_libraries_and_installs_itself_alone(self):
        for way in WAYS:
            with self.subTest(way):
                # As the other build compiles, so that ccache has it.
                options = ["-DCMAKE_BUILD_TYPE=Release"]
                if os.environ["LAUNCHER"]:
                    options += [f"-DCMAKE_{language}_COMPILER_LAUNCHER={os.environ['LAUNCHER']}"
                                for language in ("C", "CXX")]
                build = self.configure(way, *RUNTIME_ALONE, *options)
                run(CMAKE, "--build", build, "--target", "program", "--parallel", os.cpu_count())
                self.assertEqual(run(build / "program"), f"{VERSION} {VERSION}\n")
                run(CMAKE, "--install", build, "--prefix", self.folder / "prefix")
                installed = [str(path.relative_to(self.folder / "prefix"))
                             for path in (self.folder / "prefix").rglob("*") if path.is_file()]
                self.assertEqual(installed, ["bin/program"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
