#!/usr/bin/env python3
"""calibatt_add_package as other projects use it, with nothing but an installed tree: the example
project, and what is built again when."""

import os
import tempfile
import time
import unittest
from pathlib import Path

from installing import HAS_COMPILER, LIBDIR, SOURCE, install, run, start

CMAKE = os.environ["CMAKE"]
# Where NVRTC is; what is compiled does not depend on the cache of whoever runs this.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name == "CALIBATT_CUDA_WHEELS"}
ENVIRONMENT["CALIBATT_CACHE"] = ""

PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(pipeline LANGUAGES CXX)
find_package(calibatt REQUIRED COMPONENTS compiler)
calibatt_add_package(NAME a.model PROFILE profile.calib.safetensors ${MORE} OPTIONS ${OPTIONS})
get_target_property(package a.model CALIBATT_PACKAGE)
file(GENERATE OUTPUT where CONTENT "${package}")
"""


class Project:
    """A source folder, its build folder, and the installed tree they use."""

    def __init__(self, folder, prefix, profile, generator):
        self.source, self.build, self.prefix = folder / "source", folder / "build", prefix
        self.source.mkdir(parents=True)
        (self.source / "CMakeLists.txt").write_text(PROJECT)
        self.profile = self.source / "profile.calib.safetensors"
        self.profile.write_bytes(profile.read_bytes())
        self.package = self.build / "a.model.calibatt"
        self.generator = generator

    def configure(self, options="--form;runs", more="", **kwargs):
        return start(CMAKE, "-S", self.source, "-B", self.build, "-G", self.generator,
                     f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DOPTIONS={options}", f"-DMORE={more}",
                     env=ENVIRONMENT, **kwargs)

    def make(self):
        return start(CMAKE, "--build", self.build, env=ENVIRONMENT)

    def compiled(self):
        """Whether building now runs the compiler; what it makes has to be right."""
        before = self.package.stat().st_ino if self.package.exists() else None
        done = self.make()
        if done.returncode:
            raise AssertionError(done.stdout + done.stderr)
        # Every compile renames a new file over the package.
        return self.package.stat().st_ino != before


@unittest.skipUnless(HAS_COMPILER, "built without the compiler")
class BuildPipelineTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        # make cannot have spaces in the names of dependencies, but may have some of these.
        cls.folder = Path(folder.name, "a+b")
        install(cls.folder / "first")
        cls.prefix = cls.folder / "prefix"
        (cls.folder / "first").rename(cls.prefix)
        cls.tool = cls.prefix / "bin" / "calibatt"
        cls.profile = cls.folder / "p.calib.safetensors"
        run(cls.tool, "profile", "synth", "--preset", "tiny", "--layers", 1, "--heads", 1,
            "--steps", 1, "-o", cls.profile)

    def project(self, name, generator=None):
        return Project(self.folder / name, self.prefix, self.profile,
                       generator or os.environ["GENERATOR"])

    def test_the_example_builds_and_its_embedded_package_computes(self):
        build = self.folder / "example"
        run(CMAKE, "-S", Path(SOURCE, "examples", "cmake_project"), "-B", build,
            "-G", os.environ["GENERATOR"], f"-DCMAKE_PREFIX_PATH={self.prefix}",
            "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON", env=ENVIRONMENT)
        run(CMAKE, "--build", build, env=ENVIRONMENT)
        self.assertRegex(run(build / "embedded"),
                         r"^wan-sample: 2 heads x 420 tokens from \d+ embedded bytes, .*: right\n$")
        for package in ("sample.calibatt", "sample-file.calibatt"):
            run(self.tool, "verify", build / package,
                "--profile", build / "sample.calib.safetensors")
        where = (build / "embedded").read_bytes().find((build / "sample.calibatt").read_bytes())
        self.assertGreater(where, 0)
        self.assertEqual(where % 64, 0)

    def check_rebuilds(self, project):
        configured = project.configure()
        self.assertEqual(configured.returncode, 0, configured.stderr)
        self.assertEqual((project.build / "where").read_text(), str(project.package))
        self.assertTrue(project.compiled())
        run(self.tool, "verify", project.package, "--profile", project.profile)
        first = project.package.read_bytes()
        self.assertFalse(project.compiled(), "nothing has changed")
        project.configure()
        self.assertFalse(project.compiled(), "configured again, with the same options")

        time.sleep(0.01)  # more than the resolution of file times
        project.profile.touch()
        self.assertTrue(project.compiled(), "the profile is newer")
        self.assertEqual(project.package.read_bytes(), first)
        self.assertFalse(project.compiled())

        project.configure(options="--form;table")
        self.assertTrue(project.compiled(), "another form")
        self.assertNotEqual(project.package.read_bytes(), first)
        self.assertFalse(project.compiled())

        (self.prefix / "bin" / "calibatt-compile").touch()
        self.assertTrue(project.compiled(), "the compiler is newer")

    def test_it_is_built_again_when_and_only_when_something_has_changed(self):
        self.check_rebuilds(self.project("rebuilds"))

    @unittest.skipUnless(os.access("/usr/bin/make", os.X_OK), "make is not installed")
    def test_makefiles_know_the_same(self):
        self.check_rebuilds(self.project("makefiles", "Unix Makefiles"))

    def test_what_the_package_depends_on_is_in_the_depfile(self):
        depfile = self.folder / "p.d"
        run(self.tool, "compile", self.profile, "-o", self.folder / "p.calibatt", "--form", "runs",
            "--depfile", depfile, env=ENVIRONMENT)
        target, _, inputs = depfile.read_text().replace("\\\n", " ").partition(":")
        self.assertEqual(target, str(self.folder / "p.calibatt"))
        inputs = inputs.split()
        self.assertIn(str(self.profile), inputs)
        self.assertIn(str(self.prefix / "bin" / "calibatt-compile"), inputs)
        self.assertTrue(any("libnvrtc" in name for name in inputs), inputs)
        for name in inputs:
            self.assertTrue(Path(name).is_absolute() and Path(name).exists(), name)

    def test_a_compile_that_fails_fails_the_build_with_its_words_and_leaves_no_package(self):
        project = self.project("failing")
        self.assertEqual(project.configure(more="ARCHS;sm_80").returncode, 0)
        done = project.make()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("calibatt-compile: error: ", done.stdout + done.stderr)
        self.assertIn("sm_80", done.stdout + done.stderr)
        self.assertFalse(project.package.exists())

    def test_mistakes_in_the_call_are_named_when_it_is_configured(self):
        for more, words in (("ARCHS;sm_90a;sm_100a", "the kernels of one"),
                            ("FROBNICATE", "unknown arguments: FROBNICATE")):
            with self.subTest(more):
                done = self.project("mistake-" + words.split()[0]).configure(more=more)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(words, " ".join(done.stderr.split()))

    def test_without_the_compiler_the_package_says_what_is_missing(self):
        alone = self.folder / "no-compiler"
        for component in ("runtime", "development"):
            install(alone, "--component", component)
        project = Project(self.folder / "lacking", alone, self.profile, os.environ["GENERATOR"])
        done = project.configure()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("the component compiler needs the program calibatt-compile",
                      " ".join(done.stderr.split()))


if __name__ == "__main__":
    unittest.main(verbosity=2)
