#!/usr/bin/env python3
"""Compiles that are killed, interrupted or run out of disk: a right package, or one clear error."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
import unittest

from compiling import COMPILE, TOOL, FolderTest, compile, finish, run, start, synthesize

# Several code images, each a fraction of a second to compile.
FORM = ("--form", "table", "-j", "2")


class RobustnessTest(FolderTest):
    def setUp(self):
        super().setUp()
        self.profile = self.path("p.calib.safetensors")
        synthesize(self.profile, layers=2, heads=2, steps=2)
        begin = time.monotonic()
        compile(self.profile, self.path("reference.calibatt"), *FORM)
        self.seconds = time.monotonic() - begin
        self.reference = self.path("reference.calibatt").read_bytes()

    def check_error(self, done, code=1):
        """This exit code, nothing printed, and one line that says why."""
        self.assertEqual((done.returncode, done.out), (code, ""), done.err)
        errors = [line for line in done.err.splitlines()
                  if not line.startswith(("calibatt-compile: warning: ",
                                          "calibatt-compile: remark: "))]
        self.assertEqual(len(errors), 1, done.err)
        self.assertTrue(errors[0].startswith("calibatt-compile: error: "), errors[0])
        return errors[0]

    def check_stopped(self, sign):
        seed = random.randrange(1 << 30)
        generator = random.Random(seed)
        cache, package = self.path("cache"), self.path("m.calibatt")
        for attempt in range(6):
            process = start(COMPILE, self.profile, "-o", package, "--cache", cache, *FORM)
            time.sleep(generator.uniform(0, 1.1 * self.seconds))
            process.send_signal(sign)
            finish(process)
            said = f"seed {seed}, attempt {attempt}: {process.returncode} {process.err}"
            # A signal may come before the program has a handler, or when it is done.
            self.assertIn(process.returncode, (0, 128 + sign, -sign), said)
            if process.returncode == 128 + sign:
                self.assertIn("interrupted", self.check_error(process, 128 + sign))
            if process.returncode == 0:
                self.assertEqual(package.read_bytes(), self.reference, said)
                package.unlink()
            # Without files that have no name, a kill leaves temporaries, and never the package.
            names = [name for name in self.names() if ".tmp-" not in name]
            self.assertEqual([name for name in names if name != "cache"],
                             ["p.calib.safetensors", "reference.calibatt"], said)
        compile(self.profile, package, "--cache", cache, *FORM)
        self.assertEqual(package.read_bytes(), self.reference)
        report = compile(self.profile, package, "--cache", cache, *FORM)
        self.assertEqual(report["cached_code_images"], len(report["code_images"]))

    def test_kills_at_any_moment_leave_a_cache_that_works_and_no_package(self):
        self.check_stopped(signal.SIGKILL)

    def test_interrupts_at_any_moment_leave_a_cache_that_works_and_no_package(self):
        self.check_stopped(signal.SIGINT)

    def disk(self, kilobytes):
        """A file system of this size; the test is skipped where none can be mounted."""
        folder = self.path("disk")
        folder.mkdir(exist_ok=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder],
            capture_output=True, text=True) if shutil.which("mount") else None
        if mounted is None or mounted.returncode:
            self.skipTest("cannot mount a tmpfs: "
                          + (mounted.stderr.strip() if mounted else "mount is not installed"))
        self.addCleanup(subprocess.run, ["umount", folder], check=True)
        return folder

    def test_a_cache_on_a_full_disk_costs_a_warning(self):
        disk = self.disk(64)
        package = self.path("m.calibatt")
        done = finish(start(COMPILE, self.profile, "-o", package, "--cache", disk / "cache", *FORM))
        self.assertEqual(done.returncode, 0, done.err)
        self.assertEqual(package.read_bytes(), self.reference)
        warnings = [line for line in done.err.splitlines() if "warning: cache: " in line]
        self.assertIn(len(warnings), (1, 2), done.err)  # one for layers, one for kernels
        for warning in warnings:
            self.assertIn("No space left on device", warning)
        info = json.loads(finish(start(TOOL, "cache", "info", "--json", "--cache",
                                       disk / "cache")).out)
        self.assertEqual(info["leftover_bytes"], 0)

    def test_a_package_on_a_full_disk_is_an_error_and_leaves_nothing(self):
        # The package is spooled beside itself, so that it needs its size twice.
        disk = self.disk(2 * len(self.reference) // 1024)
        ballast = disk / "ballast"
        for share in (1, 0.6, 0.3):
            with self.subTest(full=share):
                try:
                    ballast.write_bytes(bytes(int(share * 2 * len(self.reference))))
                except OSError as full:
                    self.assertIn("No space left", str(full))
                done = finish(start(COMPILE, self.profile, "-o", disk / "m.calibatt", *FORM))
                error = self.check_error(done)
                self.assertIn(f"{disk}/m.calibatt", error)
                self.assertIn("No space left on device", error)
                self.assertEqual([path.name for path in disk.iterdir()], ["ballast"])

    def test_extract_on_a_full_disk_leaves_no_part_of_a_site(self):
        whole = self.path("whole")
        run(TOOL, "inspect", "extract", self.path("reference.calibatt"), "0,0,0", "-o", whole)
        sizes = [path.stat().st_size for path in whole.iterdir()]
        self.assertEqual(len(sizes), 4)
        disk = self.disk(sum(sizes) // 1024 + 64)
        ballast = disk / "ballast"
        refused = 0
        for keep in (16, max(sizes) // 1024 + 8, (sum(sizes) - min(sizes)) // 1024):
            ballast.write_bytes(bytes(((sum(sizes) // 1024 + 64) - keep) << 10))
            for folder in ("deep/folder", "old"):
                (disk / "old").mkdir(exist_ok=True)
                done = finish(start(TOOL, "inspect", "extract", self.path("reference.calibatt"),
                                    "0,0,0", "-o", disk / folder))
                if done.returncode == 0:
                    for path in whole.iterdir():
                        self.assertEqual((disk / folder / path.name).read_bytes(),
                                         path.read_bytes())
                    shutil.rmtree(disk / folder)
                    continue
                refused += 1
                self.assertEqual(done.returncode, 1, done.err)
                self.assertIn("No space left on device", done.err)
                self.assertEqual(sorted(path.name for path in disk.rglob("*")),
                                 ["ballast", "old"])
        self.assertGreaterEqual(refused, 2)

    def test_a_report_or_depfile_on_a_full_disk_is_an_error_and_no_package_appears(self):
        disk = self.disk(32)
        package = self.path("m.calibatt")
        package.write_bytes(b"old")
        for option in ("--report", "--depfile"):
            (disk / "ballast").write_bytes(bytes(32 << 10))
            done = finish(start(COMPILE, self.profile, "-o", package, *FORM, option, disk / "file",
                                "--report" if option == "--depfile" else "--depfile",
                                self.path("other")))
            self.assertIn(f"{disk}/file", self.check_error(done))
            self.assertIn("No space left on device", done.err)
            self.assertEqual([path.name for path in disk.iterdir()], ["ballast"])
            self.assertEqual(package.read_bytes(), b"old")
            self.assertFalse(self.path("other").exists())
        (disk / "ballast").unlink()
        compile(self.profile, package, *FORM, "--report", disk / "file")
        self.assertEqual(package.read_bytes(), self.reference)
        self.assertEqual(json.loads((disk / "file").read_text())["package_bytes"],
                         len(self.reference))

    def test_a_dump_on_a_full_disk_is_an_error_and_leaves_no_part_of_it(self):
        dump = self.path("dump")
        compile(self.profile, self.path("m.calibatt"), *FORM, "--dump-ir", dump)
        size = sum(path.stat().st_size for path in dump.iterdir())
        disk = self.disk(size // 2048)
        done = finish(start(COMPILE, self.profile, "-o", self.path("n.calibatt"), *FORM,
                            "--dump-ir", disk / "a/b"))
        self.assertIn("No space left on device", self.check_error(done))
        self.assertEqual(list(disk.iterdir()), [])
        self.assertFalse(self.path("n.calibatt").exists())

    def test_a_full_temporary_folder_gives_a_right_package_or_an_error(self):
        disk = self.disk(16)
        (disk / "full").write_bytes(bytes(8 << 10))
        package = self.path("m.calibatt")
        done = finish(start(COMPILE, self.profile, "-o", package, *FORM, TMPDIR=disk))
        if done.returncode == 0:
            self.assertEqual(package.read_bytes(), self.reference)
        else:
            self.assertIn(str(disk), self.check_error(done))
            self.assertFalse(package.exists())
        self.assertEqual([path.name for path in disk.iterdir()], ["full"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
