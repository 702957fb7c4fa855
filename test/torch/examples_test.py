"""examples/diffusers as its README says: a pipeline is calibrated, compiled, verified and run."""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import torch
    import diffusers
except ImportError as error:
    raise unittest.SkipTest(f"torch and diffusers are not installed ({error})")

from safetensors import safe_open

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class ExamplesTest(unittest.TestCase):
    def setUp(self):
        self.cache = self.enterContext(tempfile.TemporaryDirectory())

    def run_example(self, name, *words):
        commands = Path(os.environ["CALIBATT_COMMAND"]).parent
        environment = dict(
            os.environ, PATH=f"{commands}:{os.environ['PATH']}", CALIBATT_CACHE=self.cache)
        return subprocess.run(
            [sys.executable, EXAMPLES / "diffusers" / name, *words], env=environment, text=True,
            capture_output=True)

    def test_one_command_calibrates_a_pipeline_and_runs_it_from_the_package(self):
        with tempfile.TemporaryDirectory() as folder:
            first = self.run_example("calibrate_wan.py", "--out", folder)
            self.assertEqual(first.returncode, 0, first.stderr)
            self.assertRegex(first.stdout, "16 sites, .* equal, bit by bit")
            calls, dense, difference = re.search(
                "(\\d+) calls of the package, (\\d+) of them dense; .* by (.*) .relative", first.stdout
            ).groups()
            self.assertEqual((calls, dense), ("8", "0"))
            # Blocks were dropped, and those that mattered were not.
            self.assertGreater(float(difference), 0)
            self.assertLess(float(difference), 0.5)
            events = [json.loads(line) for line in first.stderr.splitlines() if line.startswith("{")]
            self.assertEqual(sum(event["event"] == "counted" for event in events), 3)
            again = self.run_example("calibrate_wan.py", "--out", folder)
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertNotIn('"counted"', again.stderr)
            self.assertEqual(again.stdout.splitlines()[-1], first.stdout.splitlines()[-1])

    def test_the_sample_of_the_quickstart_is_what_dump_qk_writes(self):
        with tempfile.TemporaryDirectory() as folder:
            dumped = self.run_example("dump_qk.py", "--out", folder, "--prompts", "1")
            self.assertEqual(dumped.returncode, 0, dumped.stderr)
            with safe_open(Path(folder, "prompt0.safetensors"), "pt") as new:
                with safe_open(EXAMPLES / "sample" / "prompt0.safetensors", "pt") as old:
                    self.assertEqual(new.metadata(), old.metadata())
                    self.assertEqual(set(new.keys()), set(old.keys()))
                    for name in new.keys():
                        # Another processor rounds some of the bf16 elsewhere.
                        a, b = (file.get_tensor(name).double() for file in (new, old))
                        self.assertLess(((a - b).norm() / b.norm()).item(), 2e-3, name)


if __name__ == "__main__":
    unittest.main()
