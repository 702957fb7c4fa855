"""Calibrations that are killed, two at once, and on full disks end with nothing lost or counted
twice, or with one clear error."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
import unittest

import numpy

import counts_test
import profile_abi as abi

GRID, LAYERS, HEADS, STEPS = (3, 40, 58), 2, 3, 4  # 55 blocks: 0.6 MB of counts


def calibrate(path, seed, names):
    """Adds the prompts that are not there yet, each of its own random numbers."""
    with abi.Counts(path, abi.problem(GRID, LAYERS, HEADS, STEPS)) as counts:
        for name in names:
            if not counts.has(name):
                random = numpy.random.default_rng([seed, *name.encode()])
                counts_test.Prompt(random, LAYERS, STEPS, HEADS, counts.info().blocks).add_to(
                    counts, name)


def child(*arguments, **options):
    options.setdefault("stdout", subprocess.DEVNULL)
    return subprocess.Popen([sys.executable, __file__, "--calibrate", *map(str, arguments)],
                            stderr=subprocess.PIPE, text=True, **options)


class DurabilityTest(counts_test.Case):
    names = ["a cat", "a dog", "a river", "a street"]

    def leftovers(self):
        return sorted(path.name for path in self.folder.iterdir())

    def test_a_calibration_killed_at_random_points_resumes_to_the_same_bytes(self):
        calibrate(self.folder / "whole", self.seed, self.names)
        kills = 0
        while True:
            process = child(self.folder / "killed", self.seed, *self.names,
                            stdout=subprocess.PIPE)
            process.stdout.readline()  # loaded: what follows is calibration
            time.sleep(self.random.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
            error = process.communicate()[1]
            if process.returncode == 0:
                break
            self.assertEqual(process.returncode, -signal.SIGKILL, error)
            kills += 1
            if kills == 6:  # a slow machine: let it end
                calibrate(self.folder / "killed", self.seed, self.names)
                break
        self.assertEqual((self.folder / "killed").read_bytes(),
                         (self.folder / "whole").read_bytes())
        self.assertEqual(self.leftovers(), ["killed", "whole"])

    def test_a_merge_killed_at_random_points_leaves_nothing_that_a_rerun_does_not_take_away(self):
        for index, name in enumerate(self.names):
            calibrate(self.folder / f"{index}", self.seed, [name])
        parts = [self.folder / f"{index}" for index in range(len(self.names))]
        command = [counts_test.TOOL, "profile", "merge", *map(str, parts), "-o"]
        begin = time.monotonic()
        subprocess.run([*command, self.folder / "whole"], check=True, capture_output=True)
        seconds = time.monotonic() - begin
        for _ in range(20):
            process = subprocess.Popen([*command, self.folder / "merged"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            time.sleep(self.random.uniform(0, 1.1 * seconds))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            (self.folder / "merged").unlink(missing_ok=True)
            # Not even before the rerun, but for locks and the instant between a name and the
            # rename.
            for name in set(self.leftovers()) - {*map(str, range(len(parts))), "whole"}:
                self.assertRegex(name, r"^merged\.tmp-calibatt-|\.lock$")
        subprocess.run([*command, self.folder / "merged"], check=True, capture_output=True)
        self.assertEqual(self.leftovers(), [*map(str, range(len(parts))), "merged", "whole"])
        self.assertEqual((self.folder / "merged").read_bytes(),
                         (self.folder / "whole").read_bytes())

    def test_the_order_of_prompts_does_not_matter(self):
        calibrate(self.folder / "one", self.seed, self.names)
        calibrate(self.folder / "two", self.seed, self.names[2:])
        calibrate(self.folder / "two", self.seed, self.names)
        self.assertEqual((self.folder / "one").read_bytes(), (self.folder / "two").read_bytes())

    def test_two_writers_at_once_are_one_writer_and_an_error_with_its_pid(self):
        path = self.folder / "c"
        with abi.Counts(path, abi.problem(GRID, LAYERS, HEADS, STEPS)):
            process = child(path, self.seed, "p")
            error = process.communicate()[1]
            self.assertEqual(process.returncode, 1)
            self.assertIn(f"BUSY: {path}: is in use by process {os.getpid()} on ", error)
            failure = counts_test.tool("profile", "select", path, "-o", self.folder / "p",
                                       exit_code=1)
            self.assertIn(f"is in use by process {os.getpid()} on ", failure)
        calibrate(path, self.seed, ["p"])
        self.assertEqual(self.leftovers(), ["c"])

    def test_a_full_disk_is_one_error_and_nothing_is_lost(self):
        path = self.folder / "c"
        calibrate(path, self.seed, ["first"])
        before, size = path.read_bytes(), path.stat().st_size

        def small(limit):
            def apply():
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return apply

        # No room for the prompt's record, and no room for counts at all.
        process = child(path, self.seed, "second", preexec_fn=small(size // 5))
        error = process.communicate()[1]
        self.assertEqual(process.returncode, 1)
        self.assertIn(f"STORAGE: {path}.prompt: cannot reserve ", error)
        self.assertEqual(path.read_bytes(), before)
        process = child(self.folder / "new", self.seed, "x", preexec_fn=small(size // 2))
        self.assertIn(f"STORAGE: {self.folder / 'new'}: cannot reserve ", process.communicate()[1])
        self.assertEqual(self.leftovers(), ["c"])
        # Room for the record, not for the log of folding it in: kept, and folded in later.
        process = child(path, self.seed, "second", preexec_fn=small(int(size * 0.5)))
        error = process.communicate()[1]
        self.assertEqual(process.returncode, 1, error)
        self.assertRegex(error, rf"STORAGE: {re.escape(str(path))}\.redo[01]: cannot write")
        with abi.Counts(path) as counts:
            self.assertEqual(counts.info().recovered, 1)
            self.assertEqual(counts.prompts(), ["first", "second"])
        calibrate(self.folder / "good", self.seed, ["first", "second"])
        self.assertEqual((self.folder / "good").read_bytes(), path.read_bytes())

    def test_a_command_that_reads_folds_in_what_a_killed_run_left(self):
        path = self.folder / "c"
        calibrate(path, self.seed, ["a", "b"])
        calibrate(self.folder / "left", self.seed, ["a"])
        limit = int(path.stat().st_size * 0.5)

        def small():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        child(self.folder / "left", self.seed, "b", preexec_fn=small).communicate()
        self.assertIn("left.prompt", self.leftovers())
        counts_test.tool("profile", "select", self.folder / "left", "-o", self.folder / "p1")
        counts_test.tool("profile", "select", path, "-o", self.folder / "p2")
        self.assertEqual((self.folder / "p1").read_bytes(), (self.folder / "p2").read_bytes())
        self.assertEqual(self.leftovers(), ["c", "left", "p1", "p2"])


class RefusalTest(counts_test.Case):
    def problem(self, **fields):
        return abi.problem(fields.pop("grid", GRID), fields.pop("layers", LAYERS),
                           fields.pop("heads", HEADS), fields.pop("steps", STEPS), **fields)

    def refused(self, status, text, call, *arguments, **named):
        with self.assertRaises(abi.Refused) as caught:
            call(*arguments, **named)
        self.assertEqual(caught.exception.status, status, str(caught.exception))
        self.assertIn(text, str(caught.exception))

    def test_counts_of_another_model_grid_or_schedule_are_refused_by_field(self):
        path = self.folder / "c"
        abi.Counts(path, self.problem()).close()
        for text, fields in [("model: got other, but", {"model": b"other"}),
                             ("grid: got 3x58x40, but", {"grid": (3, 58, 40)}),
                             ("steps: got 5, but", {"steps": 5}),
                             ("heads: got 4, but", {"heads": 4}),
                             ("criterion: a: got 0.9, but", {"eps_a": 0.9}),
                             ("max_text: got 7, but", {"max_text": 7})]:
            self.refused("MISMATCH", text, abi.Counts, path, self.problem(**fields))
        self.refused("INVALID_ARGUMENT", "head_dim: got 80", abi.Counts, path,
                     self.problem(head_dim=80))
        self.refused("BAD_FILE", "is not there", abi.Counts, self.folder / "none")

    def test_a_change_in_mid_run_is_refused_and_the_prompt_is_not_counted(self):
        with abi.Counts(self.folder / "c", self.problem()) as counts:
            blocks = counts.info().blocks
            prompt = counts_test.Prompt(self.random, LAYERS, STEPS, HEADS, blocks)
            self.refused("INVALID_ARGUMENT", "no prompt is open", counts.commit)
            counts.begin("p")
            self.refused("INVALID_ARGUMENT", 'prompt "p" is open', counts.begin, "q")
            energies, scores = prompt.energies[0, 0], prompt.repetition[0, 0]
            self.refused("MISMATCH", "layer 0, step 4: the counts are of 2 layers and 4 steps",
                         counts.add, 0, 4, energies, scores)
            self.refused("MISMATCH", "heads 1 to 4 given, the counts are of 3 heads", counts.add,
                         0, 0, energies, scores, head_begin=1)
            counts.add(0, 0, energies, scores)
            self.refused("INVALID_ARGUMENT", "layer 0, head 0, step 0 is added a second time",
                         counts.add, 0, 0, energies, scores)
            self.refused("INVALID_ARGUMENT", "3 of 24 sites were added; layer 0, head 0, step 1",
                         counts.commit)
            counts.abandon()
            prompt.add_to(counts, "p")
            self.refused("MISMATCH", 'prompt "p" is counted already', counts.begin, "p")

    def test_nan_and_infinity_are_named_by_layer_and_step(self):
        with abi.Counts(self.folder / "c", self.problem()) as counts:
            prompt = counts_test.Prompt(self.random, LAYERS, STEPS, HEADS, counts.info().blocks)
            counts.begin("p")
            for bad, name in [(numpy.nan, "NaN"), (numpy.inf, "infinite")]:
                energies = prompt.energies[1, 2].copy()
                energies[2, 5, 3] = bad
                self.refused("BAD_VALUES",
                             f"layer 1, head 2, step 2: the energy of row 5, block 3 is {name}; "
                             'prompt "p" cannot be counted', counts.add, 1, 2, energies,
                             prompt.repetition[1, 2])
            self.assertEqual(counts.info().sites_added, 0)
            counts.abandon()
            self.assertEqual(counts.prompts(), [])

    def test_damaged_and_truncated_files_are_one_error(self):
        path = self.folder / "c"
        calibrate(path, self.seed, ["p"])
        good = path.read_bytes()
        path.write_bytes(good[:len(good) // 2])
        self.refused("BAD_FILE", str(path), abi.Counts, path)
        middle = bytearray(good)
        middle[len(good) // 3] ^= 4
        path.write_bytes(middle)
        error = counts_test.tool("profile", "select", path, "-o", self.folder / "p", exit_code=1)
        self.assertRegex(error, r"layer \d, head \d, step \d: is damaged: its hash is another")
        self.assertEqual(error.count("\n"), 1)
        self.assertFalse((self.folder / "p").exists())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--calibrate"]:
        print("started", flush=True)
        try:
            calibrate(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
        except abi.Refused as refusal:
            sys.exit(f"{refusal.status}: {refusal}")
        sys.exit(0)
    unittest.main()
