#!/usr/bin/env python3
"""What `cmake --install` gives: installed into one prefix and moved to another before it is used."""

import json
import os
import sys
import tempfile
import unittest
from pathlib import Path

from installing import BUILD, HAS_COMPILER, LIBDIR, PYTHONDIR, SOURCE, VERSION, install, run, start


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


class InstalledTreeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.first, cls.prefix = Path(cls.folder.name, "first"), Path(cls.folder.name, "moved")
        install(cls.first)
        cls.first.rename(cls.prefix)
        cls.sample = Path(cls.folder.name, "sample.calibatt")
        cls.content = json.loads(run(os.environ["MAKE_SAMPLE"], cls.sample))

    def test_it_holds_what_a_user_needs_and_nothing_else(self):
        library = f"{LIBDIR}/libcalibatt.so"
        wanted = {
            library, f"{library}.0", f"{library}.{VERSION}", "include/calibatt/calibatt.h",
            "include/calibatt/profile.h", f"{LIBDIR}/pkgconfig/calibatt.pc",
            f"{LIBDIR}/pkgconfig/calibatt_profile.pc", "share/doc/calibatt/LICENSE", "bin/calibatt",
        }
        wanted |= {f"{LIBDIR}/libcalibatt_profile.so{end}" for end in ("", ".0", f".{VERSION}")}
        wanted |= {f"{LIBDIR}/cmake/calibatt/calibatt-{name}.cmake"
                   for name in ("config", "config-version", "runtime-targets", "calibration-targets")}
        python = Path(SOURCE, "runtime/python")
        wanted |= {f"{PYTHONDIR}/{path.relative_to(python)}" for path in python.rglob("*.py")}
        wanted |= {f"{LIBDIR}/cmake/calibatt/{name}"
                   for name in ("CalibattAddPackage.cmake", "embedded.c.in", "embedded.h.in")}
        wanted.add(f"{PYTHONDIR}/calibatt/installed.py")
        if HAS_COMPILER:
            wanted.add("bin/calibatt-compile")
        found = files(self.prefix)
        # The targets of one build configuration have its name.
        configuration = {name for name in found if "-targets-" in name}
        self.assertEqual(len(configuration), 2)
        self.assertEqual(found - configuration, wanted)

    def test_the_component_runtime_is_the_library_alone(self):
        alone = Path(self.folder.name, "alone")
        install(alone, "--component", "runtime")
        self.assertEqual(files(alone), {
            f"{LIBDIR}/libcalibatt.so.0", f"{LIBDIR}/libcalibatt.so.{VERSION}",
            "share/doc/calibatt/LICENSE"})

    def program(self, prefix, *components):
        """The project `installed`, configured with a tree of which it wants these."""
        build = Path(tempfile.mkdtemp(dir=self.folder.name))
        done = start(os.environ["CMAKE"], "-S", Path(SOURCE, "test/install/installed"), "-B", build,
                     "-G", os.environ["GENERATOR"], f"-DCMAKE_PREFIX_PATH={prefix}",
                     f"-DCOMPONENTS={';'.join(components)}", "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON")
        return build, done

    def test_a_program_finds_both_libraries_with_cmake(self):
        build, done = self.program(self.prefix, "runtime", "calibration")
        self.assertEqual(done.returncode, 0, done.stderr)
        run(os.environ["CMAKE"], "--build", build)
        self.assertEqual(run(build / "program"), f"{VERSION} {VERSION}\n")

    def test_a_program_finds_both_libraries_with_pkg_config(self):
        flags = run("pkg-config", "--cflags", "--libs", "calibatt", "calibatt_profile",
                    env={"PKG_CONFIG_PATH": self.prefix / LIBDIR / "pkgconfig"}).split()
        program = Path(self.folder.name, "with-pkg-config")
        run("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", Path(SOURCE, "test/install/installed/main.c"),
            *flags, f"-Wl,-rpath,{self.prefix / LIBDIR}", "-o", program)
        self.assertEqual(run(program), f"{VERSION} {VERSION}\n")

    def test_either_library_can_be_installed_without_the_other(self):
        for component, lacking, library in (("runtime", "calibration", "libcalibatt_profile.so"),
                                            ("calibration", "runtime", "libcalibatt.so")):
            with self.subTest(component):
                alone = Path(self.folder.name, f"only-{component}")
                for name in (component, "development"):
                    install(alone, "--component", name)
                _, done = self.program(alone, component)
                self.assertEqual(done.returncode, 0, done.stderr)
                _, done = self.program(alone, lacking)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(f"the component {lacking} needs {library}.{VERSION}, which is not in",
                              " ".join(done.stderr.split()))

    @unittest.skipUnless(HAS_COMPILER, "built without the compiler")
    def test_the_component_compiler_is_the_compiler_alone(self):
        alone = Path(self.folder.name, "compiler")
        install(alone, "--component", "compiler")
        self.assertEqual(files(alone), {"bin/calibatt-compile"})

    def test_nothing_in_it_names_where_it_was_built_or_installed(self):
        for name in files(self.prefix):
            content = (self.prefix / name).read_bytes()
            # Debug information has the paths of sources.
            built = () if content.startswith(b"\x7fELF") else (BUILD, SOURCE)
            for place in (str(self.first), *built):
                self.assertNotIn(place.encode(), content, name)

    def test_the_commands_run(self):
        tool = self.prefix / "bin" / "calibatt"
        info = json.loads(run(tool, "inspect", "info", "--json", self.sample))
        self.assertEqual(info["problem"]["tokens"], self.content["tokens"])
        if HAS_COMPILER:
            self.assertIn("--granularity", run(tool, "compile", "--help"))

    def test_the_python_package_finds_the_library_beside_it(self):
        script = """if True:
            import sys
            import calibatt
            package = calibatt.load(sys.argv[1])
            print(package.info["tokens"], calibatt.__file__, calibatt.abi.library()._name)"""
        shown = run(sys.executable, "-c", script, self.sample,
                    env={"PYTHONPATH": self.prefix / PYTHONDIR, "PYTHONDONTWRITEBYTECODE": "1"},
                    cwd=self.folder.name)
        tokens, module, library = shown.split()
        self.assertEqual(int(tokens), self.content["tokens"])
        self.assertEqual(Path(module), self.prefix / PYTHONDIR / "calibatt" / "__init__.py")
        self.assertEqual(Path(library), self.prefix / LIBDIR / f"libcalibatt.so.{VERSION}")

    def test_a_python_package_without_its_library_says_where_it_looked(self):
        alone = Path(self.folder.name, "python-only")
        install(alone, "--component", "python")
        with self.assertRaisesRegex(AssertionError, f"tried: {alone}/{LIBDIR}/libcalibatt.so.0"):
            run(sys.executable, "-c", "import calibatt; calibatt.load('x')",
                env={"PYTHONPATH": alone / PYTHONDIR, "PYTHONDONTWRITEBYTECODE": "1"},
                cwd=self.folder.name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
