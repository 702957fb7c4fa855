"""calibatt.compile on a tiny profile, with the compiler of this build ($CALIBATT_COMPILE)."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import calibatt

TOOL = os.environ.get("CALIBATT_TOOL", "")


@unittest.skipUnless(os.environ.get("CALIBATT_COMPILE"), "built without the compiler")
class CompileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.profile = self.folder / "p.calib.safetensors"
        self.package = self.folder / "m.calibatt"
        subprocess.run([TOOL, "profile", "synth", "--preset", "tiny", "--layers", "2", "--heads", "1",
                        "--steps", "1", "-o", self.profile], check=True, capture_output=True)

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def test_it_makes_the_package_of_the_command_line_and_returns_its_report(self):
        events = []
        report = calibatt.compile(self.profile, self.package, form="runs", jobs=1,
                                  cache=self.folder / "cache", progress=events.append)
        self.assertEqual(report["package_bytes"], self.package.stat().st_size)
        other = self.folder / "other.calibatt"
        done = subprocess.run(
            [os.environ["CALIBATT_COMPILE"], self.profile, "-o", other, "--form", "runs", "--json",
             "--cache", self.folder / "cache"], check=True, capture_output=True)
        self.assertEqual(self.package.read_bytes(), other.read_bytes())
        self.assertEqual(json.loads(done.stdout)["cached_code_images"],
                         len(report["code_images"]))
        # Every phase counts up to its total.
        phases = {}
        for event in events:
            if event["event"] == "progress":
                phases.setdefault(event["phase"], []).append((event["done"], event["total"]))
        self.assertEqual(phases["lowering layers"], [(1, 2), (2, 2)])
        images = len(report["code_images"])
        self.assertEqual(phases["compiling kernels"],
                         [(done + 1, images) for done in range(images)])
        with calibatt.load(self.package) as package:
            self.assertEqual(package.info["layers"], 2)

    def test_the_package_tells_the_schedule_of_the_profile(self):
        for steps in (1, 3):
            with self.subTest(steps=steps):
                subprocess.run([TOOL, "profile", "synth", "--preset", "tiny", "--layers", "1", "--heads", "1",
                                "--steps", str(steps), "-o", self.profile], check=True, capture_output=True)
                calibatt.compile(self.profile, self.package, form="runs", no_cache=True)
                data = self.profile.read_bytes()
                header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
                with calibatt.load(self.package) as package:
                    self.assertEqual(package.steps, json.loads(header["__metadata__"]["calibatt"])["steps"])
                    self.assertEqual(len({step["timestep"] for step in package.steps}), steps)

    def test_flags_and_dry_runs_are_options_like_others(self):
        report = calibatt.compile(self.profile, self.package, dry_run=True, no_cache=True,
                                  remarks=False, share_steps=0.97)
        self.assertTrue(report["dry_run"])
        self.assertFalse(self.package.exists())

    def test_what_the_compiler_says_is_raised(self):
        for options, words in (({"arch": "sm_80"}, "sm_80"), ({"form": "half"}, "--form")):
            with self.subTest(words), self.assertRaisesRegex(calibatt.Error, words) as raised:
                calibatt.compile(self.profile, self.package, no_cache=True, **options)
            self.assertIsNone(raised.exception.status)
        with self.assertRaisesRegex(calibatt.Error, "^.*/none.calib.safetensors: cannot open"):
            calibatt.compile(self.folder / "none.calib.safetensors", self.package)
        self.assertEqual(self.names(), ["p.calib.safetensors"])

    def test_an_exception_of_the_callback_ends_the_compile_and_leaves_no_package(self):
        def stop(event):
            raise KeyboardInterrupt
        with self.assertRaises(KeyboardInterrupt):
            calibatt.compile(self.profile, self.package, form="full", granularity="head",
                             no_cache=True, progress=stop)
        self.assertEqual(self.names(), ["p.calib.safetensors"])

    def test_a_compiler_that_is_not_there_is_an_error_that_names_it(self):
        script = ("import calibatt\n"
                  "try:\n  calibatt.compile('p', 'm')\n"
                  "except (calibatt.Error, OSError) as e:\n  print(e)\n")
        environment = dict(os.environ, CALIBATT_COMPILE="/nonexistent/calibatt-compile")
        said = subprocess.run([os.sys.executable, "-c", script], env=environment, check=True,
                              capture_output=True, text=True).stdout
        self.assertIn("/nonexistent/calibatt-compile", said)


if __name__ == "__main__":
    unittest.main()
