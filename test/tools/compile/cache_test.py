#!/usr/bin/env python3
"""The cache from outside: where it is, what it saves, what is done about its size."""

import json
import os
import random
import shutil
import time
import unittest
from pathlib import Path

from compiling import (COMPILE, TOOL, FolderTest, compile, compiled, finish, profile_of_masks, run,
                       start, synthesize)


def entries(cache, kind="*"):
    return sorted(cache.glob(f"{kind}/??/*"))


class CacheTest(FolderTest):
    def setUp(self):
        super().setUp()
        self.profile = self.path("p.calib.safetensors")
        synthesize(self.profile, layers=2, heads=1, steps=2)

    def test_only_what_has_changed_is_compiled_again(self):
        # Four rows of four blocks. The first row tells the six (layer, step) apart, so that each
        # has code of its own; the others are random.
        blocks = range(4)
        masks = [[[[sorted({row, *random.choices(blocks, k=2)}) for row in blocks]]
                  for step in range(2)] for layer in range(3)]
        for number in range(6):
            first = [0] + [bit + 1 for bit in range(3) if number >> bit & 1]
            masks[number // 2][number % 2][0][0] = first
        options = ("--form", "schedule", "--cache", self.path("cache"))
        one, other = self.path("one.calib.safetensors"), self.path("other.calib.safetensors")
        profile_of_masks(one, masks)
        first = compile(one, self.path("one.calibatt"), *options)
        self.assertEqual(compiled(first), len(first["code_images"]))
        masks[1][0][0][3] = sorted({*masks[1][0][0][3]} ^ {random.choice([0, 1, 2])})
        profile_of_masks(other, masks)
        second = compile(other, self.path("other.calibatt"), *options)
        self.assertEqual(compiled(second), 1)
        run(TOOL, "verify", self.path("other.calibatt"), "--profile", other)
        self.assertEqual(compiled(compile(one, self.path("again.calibatt"), *options)), 0)
        self.assertEqual(self.path("one.calibatt").read_bytes(),
                         self.path("again.calibatt").read_bytes())

    def test_the_cache_is_where_the_environment_says_unless_there_is_to_be_none(self):
        cases = ((self.path("a"), {"CALIBATT_CACHE": self.path("a")}),
                 (self.path("xdg") / "calibatt",
                  {"CALIBATT_CACHE": None, "XDG_CACHE_HOME": self.path("xdg")}),
                 (self.path("home") / ".cache" / "calibatt",
                  {"CALIBATT_CACHE": None, "XDG_CACHE_HOME": None, "HOME": self.path("home")}))
        package, runs = self.path("m.calibatt"), ("--form", "runs")
        for folder, changes in cases:
            with self.subTest(folder):
                self.assertGreater(compiled(compile(self.profile, package, *runs, **changes)), 0)
                self.assertEqual(compiled(compile(self.profile, package, *runs, **changes)), 0)
                info = json.loads(run(TOOL, "cache", "info", "--json", **changes).out)
                self.assertEqual(info["cache"], str(folder))
                self.assertEqual(info["kinds"]["kernel"]["entries"],
                                 len(entries(folder, "kernel")))
        self.assertGreater(
            compiled(compile(self.profile, package, *runs, "--no-cache", **changes)), 0)
        before = self.names()
        compile(self.profile, package, *runs, HOME=self.path("nobody"))
        self.assertEqual(self.names(), before)

    def test_a_default_cache_that_cannot_be_is_told_and_done_without(self):
        done = run(COMPILE, self.profile, "-o", self.path("m.calibatt"), "--form", "runs",
                   CALIBATT_CACHE=self.profile / "below-a-file")
        self.assertIn("calibatt-compile: warning: ", done.err)
        self.assertIn("cannot be a cache folder", done.err)
        self.assertTrue(self.path("m.calibatt").exists())

    def test_a_damaged_entry_is_compiled_again_and_replaced(self):
        options = ("--form", "table", "--cache", self.path("cache"))
        report = compile(self.profile, self.path("first.calibatt"), *options)
        kernels = len(entries(self.path("cache"), "kernel"))
        self.assertEqual(kernels, len(report["code_images"]))
        for file in entries(self.path("cache")):
            data = file.read_bytes()
            at = random.randrange(len(data))
            flipped = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1:]
            file.write_bytes(random.choice([b"", data[:at], data + b"x", bytes(len(data)), flipped]))
        report = compile(self.profile, self.path("m.calibatt"), *options)
        self.assertEqual(compiled(report), kernels)
        self.assertEqual(self.path("m.calibatt").read_bytes(),
                         self.path("first.calibatt").read_bytes())
        self.assertEqual(compiled(compile(self.profile, self.path("m.calibatt"), *options)), 0)

    def test_a_pipe_a_link_or_a_sparse_file_as_an_entry_is_told_and_replaced(self):
        options = ("--form", "table", "--cache", self.path("cache"))
        package = self.path("m.calibatt")
        compile(self.profile, self.path("first.calibatt"), *options)
        files = entries(self.path("cache"))
        self.path("secret").write_text("of somebody else")

        def sparse(file):
            os.truncate(file, 6 << 30)

        def pipe(file):
            file.unlink()
            os.mkfifo(file)

        def link(file):
            file.unlink()
            file.symlink_to(self.path("secret"))

        def endless(file):
            file.unlink()
            file.symlink_to("/dev/zero")

        for change in (sparse, pipe, link, endless):
            with self.subTest(change.__name__):
                for file in files:
                    change(file)
                done = run("timeout", "120", COMPILE, self.profile, "-o", package, *options)
                self.assertEqual(package.read_bytes(), self.path("first.calibatt").read_bytes())
                for kind in ("layer", "kernel"):
                    self.assertRegex(done.err, rf"remark: cache: {self.path('cache')}/{kind}/.*: "
                                               rf"the {kind} was made again")
                self.assertEqual(entries(self.path("cache")), files)
                self.assertTrue(all(file.is_file() and not file.is_symlink() for file in files))
                report = compile(self.profile, package, *options)
                self.assertEqual((compiled(report), report["cached_layers"]), (0, 2))
        self.assertEqual(self.path("secret").read_text(), "of somebody else")

    def test_four_compiles_at_once_compile_each_kernel_once(self):
        options = ("--form", "table", "--cache", self.path("cache"), "--json", "-j", 2)
        packages = [self.path(f"{i}.calibatt") for i in range(4)]
        processes = [start(COMPILE, self.profile, "-o", package, *options)
                     for package in packages]
        reports = []
        for process in processes:
            finish(process)
            self.assertEqual(process.returncode, 0, process.err)
            reports.append(json.loads(process.out))
        self.assertEqual(sum(map(compiled, reports)), len(reports[0]["code_images"]))
        compile(self.profile, self.path("alone.calibatt"), "--form", "table")
        for package in packages:
            self.assertEqual(package.read_bytes(), self.path("alone.calibatt").read_bytes())

    def test_a_package_does_not_tell_where_it_was_made(self):
        # Other folders, names and a copy of the compiler: as from another checkout and build.
        compile(self.profile, self.path("m.calibatt"), "--form", "schedule", "--no-cache")
        elsewhere = self.path("a folder/build")
        (elsewhere / "bin").mkdir(parents=True)
        shutil.copy2(COMPILE, elsewhere / "bin")
        shutil.copy2(self.profile, elsewhere / "other.calib.safetensors")
        run("env", "-C", elsewhere, Path("bin") / Path(COMPILE).name, "other.calib.safetensors", "-o",
            "n.calibatt", "--form", "schedule", "--no-cache", TMPDIR=elsewhere)
        self.assertEqual((elsewhere / "n.calibatt").read_bytes(),
                         self.path("m.calibatt").read_bytes())

    def test_a_cache_that_can_only_be_read_serves_those_who_read(self):
        cache, package = self.path("cache"), self.path("m.calibatt")
        compile(self.profile, package, "--form", "runs", "--cache", cache)
        if os.geteuid() == 0:
            # Root writes wherever it likes, but not where the lock is a folder, and not over
            # entries whose folders are files.
            (cache / "lock").unlink(missing_ok=True)
            (cache / "lock").mkdir()
        else:
            for folder in [cache, *(path for path in cache.rglob("*") if path.is_dir())]:
                folder.chmod(0o555)
                self.addCleanup(folder.chmod, 0o755)
        report = compile(self.profile, self.path("n.calibatt"), "--form", "runs", "--cache", cache)
        self.assertEqual(compiled(report), 0)
        compile(self.profile, self.path("t.calibatt"), "--form", "table", "--cache", cache)

    def test_the_limit_keeps_what_was_used_last(self):
        cache, package = self.path("cache"), self.path("m.calibatt")
        compile(self.profile, package, "--form", "runs", "--cache", cache)
        past = time.time() - 1000
        for file in entries(cache):
            os.utime(file, (past, past))
        compile(self.profile, package, "--form", "table", "--cache", cache)
        used = [file for file in entries(cache) if file.stat().st_mtime > past + 500]
        self.assertLess(len(used), len(entries(cache)))
        limit = sum(file.stat().st_size for file in used)
        compile(self.profile, package, "--form", "table", "--cache", cache,
                "--cache-limit", f"{limit}B")
        self.assertEqual(entries(cache), used)
        compile(self.profile, package, "--form", "runs", "--cache", cache, "--cache-limit", "0")
        self.assertEqual(entries(cache), [])

    def test_the_commands_count_prune_and_clear(self):
        cache = self.path("cache")
        compile(self.profile, self.path("m.calibatt"), "--form", "table", "--cache", cache)
        (cache / "notes.txt").write_text("mine")
        files = entries(cache)
        size = sum(file.stat().st_size for file in files)
        text = run(TOOL, "cache", "info", "--cache", cache).out
        self.assertIn(str(cache), text)
        self.assertRegex(text, rf"kernel +{len(entries(cache, 'kernel'))} +\d")
        self.assertRegex(text, rf"all +{len(files)} +\d")
        done = json.loads(run(TOOL, "cache", "prune", "--cache", cache, "--limit", size - 1,
                              "--json").out)
        self.assertEqual(done["removed_entries"], 1)
        done = json.loads(run(TOOL, "cache", "clear", "--cache", cache, "--json").out)
        self.assertEqual(done["removed_entries"], len(files) - 1)
        self.assertEqual(entries(cache), [])
        self.assertEqual((cache / "notes.txt").read_text(), "mine")
        done = finish(start(TOOL, "cache", "clear", "--cache", self.path("none")))
        self.assertEqual(done.returncode, 0)  # there is nothing to clear
        self.assertIn("removed 0 entries", done.out)
        done = finish(start(TOOL, "cache", "clear", "--cache", self.folder))
        self.assertEqual((done.returncode, done.out), (1, ""))
        self.assertIn(f"{self.folder}: is no cache", done.err)
        self.assertEqual(finish(start(TOOL, "cache", "prune", "--cache", cache)).returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
