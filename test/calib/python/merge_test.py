"""Properties of covers, merges and selections, and `calibatt calibrate` through counts."""

import json
import os
import unittest
from pathlib import Path

import numpy
from safetensors.numpy import load_file

import counts_test
import method_reference as method
import profile_abi as abi
from counts_test import tool

SAMPLES = sorted(Path(os.environ["CALIBATT_SAMPLES"]).glob("prompt*.safetensors"))


class PropertyTest(counts_test.Case):
    def test_covers_are_minimal_and_a_higher_eps_never_drops_a_block(self):
        for _ in range(200):
            blocks = int(self.random.integers(1, 40))
            row = counts_test.random_energies(self.random, 1, blocks)[0, 0]
            low, high = sorted(self.random.uniform(0, 1, 2))
            kept, more = method.cover(row, low), method.cover(row, high)
            self.assertTrue((more | ~kept).all())
            # The largest set of one block less does not reach eps.
            fewer = numpy.sort(row.astype(float))[::-1][:kept.sum() - 1].sum()
            self.assertLess(fewer, low * row.astype(float).sum() + 1e-12)

    def test_the_same_holds_for_the_counts_of_one_prompt(self):
        grid, heads = (2, 20, 29), 4
        random = numpy.random.default_rng(self.seed)
        energies = counts_test.random_energies(random, heads, 10)
        kept = {}
        for eps in (0.3, 0.6, 0.9, 0.999, 1.0):
            with abi.Counts(self.folder / f"{eps}", abi.problem(
                    grid, heads=heads, eps_a=eps, eps_c=eps)) as counts:
                counts.begin("p")
                counts.add(0, 0, energies, numpy.zeros(heads))
                counts.commit()
            kept[eps] = load_file(self.folder / f"{eps}")["count"][0, :, 0].astype(bool)
            mass = (energies * kept[eps]).sum(axis=-1, dtype=float)
            self.assertTrue((mass >= eps * energies.sum(axis=-1, dtype=float) - 1e-12).all())
        steps = list(kept.values())
        for less, more in zip(steps, steps[1:]):
            self.assertTrue((more | ~less).all())


class SharingTest(counts_test.Case):
    def test_the_definition_of_sharing_loses_no_block(self):
        masks = [self.random.random((9, 9)) < 0.5]
        for _ in range(30):
            masks.append(masks[-1] ^ (self.random.random((9, 9)) < 0.03))
        for tau in (0.0, 0.8, 0.97, 1.0):
            for mask, shared in zip(masks, method.share_steps(masks, tau)):
                self.assertTrue((shared | ~mask).all())


class CommandTest(counts_test.Case):
    def test_calibrate_gives_the_same_bytes_with_counts_and_without(self):
        direct, through = self.folder / "direct", self.folder / "through"
        tool("calibrate", *SAMPLES, "-o", direct)
        tool("calibrate", *SAMPLES, "-o", through, "--counts", self.folder / "c")
        self.assertEqual(direct.read_bytes(), through.read_bytes())
        tool("profile", "select", self.folder / "c", "-o", through)
        self.assertEqual(direct.read_bytes(), through.read_bytes())
        # Nothing is measured again, and nothing counted twice.
        before = (self.folder / "c").read_bytes()
        tool("calibrate", *SAMPLES, "-o", through, "--counts", self.folder / "c")
        self.assertEqual(before, (self.folder / "c").read_bytes())
        # Other thresholds need no dumps.
        tool("calibrate", *SAMPLES, "-o", direct, "--rho", "0.9", "--gamma", "0.5")
        tool("profile", "select", self.folder / "c", "-o", through, "--rho", "0.9", "--gamma",
             "0.5")
        self.assertEqual(direct.read_bytes(), through.read_bytes())

    def test_counts_of_several_machines_merge_to_those_of_one(self):
        for index, sample in enumerate(SAMPLES):
            tool("calibrate", sample, "-o", self.folder / "p", "--counts", self.folder / f"{index}")
        tool("calibrate", *SAMPLES, "-o", self.folder / "p", "--counts", self.folder / "all")
        parts = [self.folder / f"{i}" for i in range(len(SAMPLES))]
        shown = json.loads(tool("profile", "merge", *reversed(parts), "-o", self.folder / "merged",
                                "--json"))
        self.assertEqual(len(shown["prompts"]), len(SAMPLES))
        self.assertEqual((self.folder / "merged").read_bytes(),
                         (self.folder / "all").read_bytes())
        error = tool("profile", "merge", parts[0], self.folder / "all", "-o", self.folder / "x",
                     exit_code=1)
        self.assertRegex(error, r'prompt ".*" is in ')
        self.assertFalse((self.folder / "x").exists())

    def test_final_counts_have_codes_of_the_means_and_select_the_same_masks(self):
        tool("calibrate", *SAMPLES, "-o", self.folder / "p", "--counts", self.folder / "sums")
        tool("profile", "merge", self.folder / "sums", "-o", self.folder / "means", "--final")
        sums, means = (load_file(self.folder / name) for name in ("sums", "means"))
        wanted = [method.code(int(s), len(SAMPLES)) for s in sums["energy_sum"].ravel()]
        numpy.testing.assert_array_equal(means["energy"].ravel(), wanted)
        numpy.testing.assert_array_equal(means["best"], sums["energy_sum"].argmax(axis=-1))
        numpy.testing.assert_array_equal(means["count"], sums["count"])
        summaries = []
        for name in ("sums", "means"):
            shown = json.loads(tool("profile", "select", self.folder / name, "-o",
                                    self.folder / f"{name}.p", "--rho", "0.7", "--json"))
            summaries.append(shown["all"])
        self.assertEqual(summaries[0]["density"], summaries[1]["density"])
        # 4.4 % of what is dropped, and of what is kept, at most.
        dropped = 1 - summaries[0]["kept_mass"]
        self.assertAlmostEqual(summaries[0]["kept_mass"], summaries[1]["kept_mass"],
                               delta=0.09 * dropped + 1e-6)

    def test_rules_against_noise_are_switched_one_by_one_and_report_their_cost(self):
        tool("calibrate", *SAMPLES, "-o", self.folder / "p", "--counts", self.folder / "c")
        plain = json.loads(tool("profile", "select", self.folder / "c", "-o", self.folder / "p",
                                "--gamma", "2", "--json"))
        self.assertEqual(plain["denoise"], {})
        for rules in ("hysteresis", "singletons=1.5", "hysteresis=0.3,singletons"):
            shown = json.loads(tool("profile", "select", self.folder / "c", "-o",
                                    self.folder / "p", "--gamma", "2", "--denoise", rules,
                                    "--json"))
            self.assertEqual(set(shown["denoise"]),
                             {rule.split("=")[0] for rule in rules.split(",")})
            lost = sum(rule["kept_mass_lost"] for rule in shown["denoise"].values())
            added = sum(rule["density_added"] for rule in shown["denoise"].values())
            self.assertAlmostEqual(plain["all"]["kept_mass"] - lost, shown["all"]["kept_mass"],
                                   places=6)
            self.assertAlmostEqual(plain["all"]["density"] + added, shown["all"]["density"],
                                   places=6)
        for rules in ("noise", "hysteresis=2", "singletons=x", "hysteresis="):
            tool("profile", "select", self.folder / "c", "-o", self.folder / "p", "--denoise",
                 rules, exit_code=2)


if __name__ == "__main__":
    unittest.main()
