#!/usr/bin/env python3
"""Every code block of the documents parses, and is run by readme_test.py or says why not."""

import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import blocks
from readme_test import GIVEN, ROOT, documents


class BlocksTest(unittest.TestCase):
    def setUp(self):
        self.blocks = [block for document in documents() for block in blocks.read(ROOT, document)]

    def test_blocks_are_found_and_most_of_them_run(self):
        run = [block for block in self.blocks if not block.not_run]
        self.assertGreater(len(run), 10)
        for language in blocks.RUN:
            self.assertTrue(any(block.language == language for block in run), language)

    def test_shell_and_python_parse(self):
        for block in self.blocks:
            with self.subTest(str(block)):
                if block.language == "python":
                    compile(block.text, str(block), "exec")
                elif block.language in ("sh", "transcript"):
                    done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
                    self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_what_is_given_is_there_and_what_is_there_is_given(self):
        named = {name for block in self.blocks for name in block.given}
        self.assertEqual(named, {path.name for path in GIVEN.iterdir() if path.name != "__pycache__"})

    def test_what_install_deps_installs_is_in_the_readme_with_why(self):
        script = Path(ROOT, ".ci", "install-deps").read_text()
        lists = re.findall(r"^ *(?:\[.*\|\| )?(?:.*\) )?(?:packages|wheels)\+?=\(([^)]*)\)", script, re.M)
        installed = {word.partition("==")[0] for words in lists for word in words.split()}
        self.assertTrue({"cmake", "numpy", "torch", "munge", "nvidia-nvfatbin"} <= installed, installed)
        table = re.search(r"^## What it depends on\n(.*?)^## ", Path(ROOT, "README.md").read_text(), re.M | re.S)[1]
        named = set(re.findall(r"[\w.+-]+", table))
        self.assertEqual(installed - named - {"ca-certificates"}, set())

    def test_a_block_that_nothing_runs_has_to_say_why(self):
        for text, words in (("```ruby\nputs 1\n```\n", "nothing here runs this language"),
                            ("<!-- not run -->\n```sh\nls\n```\n", "neither 'not run: REASON'"),
                            ("```sh\nls\n", "fences that do not pair")):
            with self.subTest(text), tempfile.TemporaryDirectory() as folder:
                Path(folder, "README.md").write_text(text)
                with self.assertRaisesRegex(ValueError, words):
                    blocks.read(folder, "README.md")


if __name__ == "__main__":
    unittest.main(verbosity=2)
