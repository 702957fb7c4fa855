"""Versions that are too old are refused by name, before anything else."""

import unittest
from unittest import mock

try:
    import torch
    import diffusers
except ImportError as error:
    raise unittest.SkipTest(f"torch and diffusers are not installed ({error})")

import calibatt
from calibatt.diffusers.versions import check_versions


class VersionsTest(unittest.TestCase):
    def test_old_versions_are_refused_by_name(self):
        check_versions()
        for module, version, least in ((torch, "2.10.1+cu128", "2.11"), (diffusers, "0.34.0", "0.35"),
                                       (torch, "1.13.1", "2.11")):
            with mock.patch.object(module, "__version__", version):
                words = f"{module.__name__} is {version}, wanted {least} or newer".replace("+", r"\+")
                for call in (lambda: calibatt.diffusers.enable(None, "none.calibatt"),
                             lambda: calibatt.diffusers.calibrate(None, "none.safetensors")):
                    with self.assertRaisesRegex(calibatt.Error, words):
                        call()

    def test_versions_of_development_are_taken(self):
        for module, version in ((torch, "2.12.0a0+git12ab"), (torch, "3.0"), (diffusers, "0.43.0.dev0")):
            with mock.patch.object(module, "__version__", version):
                check_versions()


if __name__ == "__main__":
    unittest.main()
