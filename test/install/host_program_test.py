#!/usr/bin/env python3
"""examples/c_host, built outside this tree against an installed one as its README says, and run."""

import json
import os
import re
import tempfile
import unittest
from pathlib import Path

from installing import BUILD, HAS_COMPILER, LIBDIR, SOURCE, install, run, start

NO_CUDA = {"CALIBATT_LIBCUDA": "/nonexistent/libcuda.so.1"}
EXAMPLE = Path(SOURCE, "examples", "c_host")


def readme_lines():
    """The shell block of the README that builds the example."""
    blocks = re.findall(r"```sh\n(.*?)```", Path(SOURCE, "README.md").read_text(), re.S)
    return next(block for block in blocks if "examples/c_host" in block)


class HostProgramTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        # Installed here, used there: nothing may remember the first place.
        install(cls.folder / "first")
        cls.prefix = cls.folder / "prefix"
        (cls.folder / "first").rename(cls.prefix)
        cls.sample = cls.folder / "sample.calibatt"
        cls.content = json.loads(run(os.environ["MAKE_SAMPLE"], cls.sample))
        build = cls.folder / "with-cmake"
        cmake = os.environ["CMAKE"]
        run(cmake, "-S", EXAMPLE, "-B", build, "-G", os.environ["GENERATOR"],
            f"-DCMAKE_PREFIX_PATH={cls.prefix}", "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON",
            "-DCMAKE_BUILD_TYPE=Release")
        run(cmake, "--build", build)
        cls.program = build / "c_host"

    def check_output(self, output):
        self.assertRegex(output, r"host +f32 +420 rows, relative RMS [0-9.]+e-0\d, .*: right\n")
        self.assertRegex(output, r"host +bf16 +420 rows, relative RMS [0-9.]+e-0\d, .*: right\n")
        self.assertTrue(output.endswith("passed\n"), output)

    def test_the_lines_of_the_readme_build_and_run_it(self):
        here = self.folder / "readme"
        (here / "out" / "quickstart").mkdir(parents=True)
        (here / "build").symlink_to(BUILD)
        (here / "examples").symlink_to(EXAMPLE.parent)
        (here / "out" / "quickstart" / "sample.calibatt").symlink_to(self.sample)
        lines = readme_lines()
        self.assertEqual(len(lines.splitlines()), 3)
        if LIBDIR != "lib":
            lines = lines.replace("calibatt/lib", f"calibatt/{LIBDIR}")
        output = run("bash", "-ec", lines, cwd=here, env=NO_CUDA)
        self.check_output(output)
        self.assertIn("cuda:0  not run: /nonexistent/libcuda.so.1: cannot open", output)

    def test_find_package_builds_it_and_every_site_is_right(self):
        for layer in range(self.content["layers"]):
            for head in range(self.content["heads"]):
                for step in range(self.content["steps"]):
                    output = run(self.program, self.sample, layer, head, step, env=NO_CUDA)
                    self.check_output(output)
                    kept = sum(map(len, self.content["blocks"][layer][head][step]))
                    self.assertIn(f"layer {layer}, head {head}, step {step} keeps {kept} of 16 "
                                  "blocks", output)

    def test_a_gpu_that_computes_nothing_is_found_out(self):
        # The driver of test/runtime records launches and runs nothing.
        done = start(self.program, self.sample, env={"CALIBATT_LIBCUDA": os.environ["FAKE_CUDA"]})
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("cuda:0  bf16  some of the output was not written: WRONG\nFAILED",
                      done.stdout)

    def test_what_cannot_be_done_is_said_with_the_words_of_the_library(self):
        for arguments, code, words in (
                (["/nonexistent/a.calibatt"], 1, "cannot open the package: /nonexistent/a.cal"),
                ([self.sample, 9, 0, 0], 1, "site (layer 9, head 0, step 0) is outside"),
                ([self.sample, 0, 0], 2, "usage: c_host PACKAGE"),
                ([self.sample, 0, "-1", 0], 2, "usage: c_host PACKAGE")):
            done = start(self.program, *arguments, env=NO_CUDA)
            self.assertEqual((done.returncode, done.stdout), (code, ""))
            self.assertIn(words, done.stderr)

    @unittest.skipUnless(HAS_COMPILER, "built without the compiler")
    def test_a_package_that_the_installed_commands_made_runs_on_what_is_there(self):
        tool = self.prefix / "bin" / "calibatt"
        profile, package = self.folder / "p.calib.safetensors", self.folder / "p.calibatt"
        run(tool, "calibrate", *sorted(Path(SOURCE, "examples/sample").glob("*.safetensors")),
            "-o", profile)
        toolkit = {name: value for name, value in os.environ.items()
                   if name == "CALIBATT_CUDA_WHEELS"}
        run(tool, "compile", profile, "-o", package, env=toolkit)
        output = run(self.program, package, 1, 1, 2)
        self.check_output(output)
        self.assertRegex(output, r"cuda:0 +(not run: .+|bf16 .*: right)\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
