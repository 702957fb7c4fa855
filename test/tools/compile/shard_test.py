#!/usr/bin/env python3
"""Shards and what is merged of them: the bytes of one compile, or words on why not."""

import json
import random
import unittest

from compiling import COMPILE, TOOL, FolderTest, compile, finish, random_profile, run, start


class ShardTest(FolderTest):
    def setUp(self):
        super().setUp()
        self.profile = self.path("p.calib.safetensors")
        random_profile(self.profile, layers=5, heads=2, steps=2)
        self.package = self.path("m.calibatt")

    def shards(self, count, *options, profile=None, name="s"):
        paths = []
        for index in range(1, count + 1):
            paths.append(self.path(f"{name}{index}of{count}.calibatt"))
            compile(profile or self.profile, paths[-1], "--shard", f"{index}/{count}", *options)
        return paths

    def merge(self, *shards):
        return finish(start(TOOL, "merge", *shards, "-o", self.package))

    def refused(self, *shards):
        self.package.unlink(missing_ok=True)
        done = self.merge(*shards)
        self.assertEqual((done.returncode, done.out), (1, ""), done.err)
        self.assertFalse(self.package.exists())
        self.assertEqual(len(done.err.splitlines()), 1, done.err)
        return done.err

    def test_merged_shards_are_the_bytes_of_one_compile(self):
        cached = ("--cache", self.path("cache"))
        for form, granularity, sets in (
                ("runs", "step", ((2, 1, ("--no-cache",)), (2, 1, cached), (3, 2, cached),
                                   (5, 1, cached), (1, 2, cached))),
                ("auto", "head", ((3, 2, cached),))):
            options = ("--form", form, "--granularity", granularity)
            compile(self.profile, self.path("alone.calibatt"), *options)
            for count, jobs, cache in sets:
                with self.subTest(form=form, count=count, jobs=jobs, cache=cache):
                    shards = self.shards(count, *options, "-j", jobs, *cache)
                    random.shuffle(shards)
                    done = self.merge(*shards)
                    self.assertEqual(done.returncode, 0, done.err)
                    self.assertEqual(self.package.read_bytes(),
                                     self.path("alone.calibatt").read_bytes())
        run(TOOL, "verify", self.package, "--profile", self.profile)

    def test_with_shared_steps_and_remarks_they_are_the_same_too(self):
        options = ("--form", "runs", "--share-steps", "0.01")
        compile(self.profile, self.path("alone.calibatt"), *options)
        self.assertEqual(self.merge(*self.shards(2, *options)).returncode, 0)
        self.assertEqual(self.package.read_bytes(), self.path("alone.calibatt").read_bytes())

    def test_shards_are_whole_layers_and_balanced(self):
        layers = []
        for path in self.shards(3, "--form", "runs"):
            done = finish(start(TOOL, "inspect", "info", path))
            self.assertEqual(done.returncode, 1)
            self.assertIn("calibatt merge", done.err)
        for index in (1, 2, 3):
            report = json.loads(run(COMPILE, self.profile, "--dry-run", "--json",
                                    "--shard", f"{index}/3").out)
            self.assertEqual((report["shard"]["index"], report["shard"]["count"]), (index, 3))
            self.assertIn(len(report["shard"]["layers"]), (1, 2))
            layers += report["shard"]["layers"]
        self.assertEqual(sorted(layers), list(range(5)))

    def test_wrong_sets_are_refused_by_name(self):
        one, two, three = self.shards(3, "--form", "runs")
        self.assertIn("shard 2 of 3 is missing", self.refused(one, three))
        self.assertIn("shards 1, 3 of 3 are missing", self.refused(two))
        twice = self.refused(one, two, three, two)
        self.assertIn(f"{two} and {two} are both shard 2 of 3", twice)
        other, _ = self.shards(2, "--form", "runs")
        self.assertIn("the number of shards is 3 and 2", self.refused(one, other))
        form = self.shards(3, "--form", "table", name="table")[1]
        said = self.refused(one, form, three)
        self.assertIn("--form runs", said)
        self.assertIn("--form table", said)
        random_profile(self.path("q.calib.safetensors"), layers=5, heads=2, steps=3)
        stranger = self.shards(3, "--form", "runs", profile=self.path("q.calib.safetensors"),
                               name="q")[1]
        self.assertIn("the digest of the profile", self.refused(one, stranger, three))
        whole = self.path("whole.calibatt")
        compile(self.profile, whole, "--form", "runs")
        self.assertIn(f"{whole}: is a whole package", self.refused(one, whole, three))
        cut = self.path("cut.calibatt")
        cut.write_bytes(two.read_bytes()[:-1])
        self.assertIn(str(cut), self.refused(one, cut, three))
        self.assertIn("is a shard", finish(start(TOOL, "merge", one, two, three, "-o", two)).err)
        self.assertEqual(self.merge(one, two, three).returncode, 0)

    def test_a_shard_is_checked_like_a_package(self):
        shard = self.shards(2, "--form", "runs")[0]
        done = json.loads(run(TOOL, "check", shard, "--json").out)
        self.assertEqual((done["files"][0]["kind"], done["passed"]), ("shard", True))
        damaged = bytearray(shard.read_bytes())
        damaged[random.randrange(8, len(damaged))] ^= 1 << random.randrange(8)
        shard.write_bytes(damaged)
        done = finish(start(TOOL, "check", shard))
        self.assertEqual(done.returncode, 1, done.out)
        self.assertIn(f"calibatt: error: {shard}: ", done.err)

    def test_numbers_that_make_no_sense_are_usage_errors_or_name_the_profile(self):
        for text in ("0/2", "3/2", "1", "1/", "/2", "a/b", "1/2/3", "-1/2", "1/0"):
            with self.subTest(text):
                done = finish(start(COMPILE, self.profile, "-o", self.package, "--shard", text))
                self.assertEqual(done.returncode, 2)
        done = finish(start(COMPILE, self.profile, "-o", self.package, "--shard", "1/6"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("--shard 1/6", done.err)
        self.assertIn("has 5 layers", done.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
