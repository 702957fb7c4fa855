#!/usr/bin/env python3
"""examples/slurm on a real Slurm: the merged package is that of one machine, though a task failed."""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import cluster

SUBMIT = Path(os.environ["SOURCE"], "examples", "slurm", "submit.sh")
CALIBATT = os.environ["CALIBATT"]


def run(*command, env=None):
    done = subprocess.run([str(word) for word in command], env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class ArrayTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.slurm = cls.enterClassContext(cluster.Cluster())
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.profile = cls.folder / "p.calib.safetensors"
        run(CALIBATT, "profile", "synth", "--preset", "tiny", "--layers", 2, "--heads", 2,
            "--steps", 2, "-o", cls.profile)

    def wait(self, jobs, seconds=300):
        """Until no job is waiting or running."""
        deadline = time.monotonic() + seconds
        while True:
            queue = self.slurm.output("squeue", "--noheader", "--array", "-j", ",".join(jobs),
                                      "-o", "%A %t %r").split("\n")
            rows = [line.split() for line in queue if line and line[0].isdigit()]
            if not rows:
                return
            for job, _, reason in rows:
                # Slurm holds a requeued job back for two minutes; an administrator need not.
                if reason == "BeginTime":
                    self.slurm.output("scontrol", "update", f"JobId={job}", "StartTime=now")
            self.assertLess(time.monotonic(), deadline, queue)
            time.sleep(0.5)

    def submit(self, name, shards, **variables):
        package = self.folder / name
        environment = {**self.slurm.environment, **variables, "CALIBATT": CALIBATT}
        jobs = run(SUBMIT, self.profile, package, shards, "--form", "table",
                   "--cache", self.folder / "cache", env=environment).split()
        self.assertEqual(len(jobs), 2)
        self.wait(jobs)
        logs = {path.name: path.read_text() for path in Path(f"{package}.shards").glob("*.log")}
        return package, logs

    def test_a_failed_task_is_queued_again_and_the_package_is_that_of_one_machine(self):
        alone = self.folder / "alone.calibatt"
        run(CALIBATT, "compile", self.profile, "-o", alone, "--form", "table", "--no-cache")
        package, logs = self.submit("model.calibatt", 2, FAIL_SHARD="2")
        self.assertIn("shard 2: failed, queued again", logs["2.log"])
        self.assertNotIn("failed", logs["1.log"])
        self.assertEqual(package.read_bytes(), alone.read_bytes(), logs)
        self.assertEqual(sorted(os.listdir(f"{package}.shards")),
                         ["1.log", "2.log", "merge.log"])

    def test_a_task_that_goes_on_failing_ends_the_merge_and_leaves_no_package(self):
        environment = {**self.slurm.environment, "CALIBATT": "/bin/false"}
        package = self.folder / "never.calibatt"
        jobs = run(SUBMIT, self.profile, package, 2, env=environment).split()
        self.wait(jobs)
        self.assertFalse(package.exists())
        log = Path(f"{package}.shards", "1.log").read_text()
        self.assertEqual(log.count("failed, queued again"), 2, log)


if __name__ == "__main__":
    why = cluster.missing()
    if why:
        print(f"skipped: {why}")
        sys.exit(77)
    unittest.main(verbosity=2)
