"""Properties of covers, merges and selections, and `calibatt calibrate` through counts."""

import json
import os
import unittest
from pathlib import Path

import numpy
from safetensors.numpy import load_file, save_file

import counts_test
import method_reference as method
import profile_abi as abi
from counts_test import tool

SAMPLES = sorted(Path(os.environ["CALIBATT_SAMPLES"]).glob("prompt*.safetensors"))


class PropertyTest(counts_test.Case):
    def test_covers_are_minimal_and_a_higher_eps_never_drops_a_block(self):
        grid, heads, blocks = (2, 20, 29), 4, 10
        energies = counts_test.random_energies(self.random, heads, blocks)
        kept = {}
        for eps in (0.3, 0.6, 0.9, 0.999, 1.0):
            with abi.Counts(self.folder / f"{eps}", abi.problem(
                    grid, heads=heads, eps_a=eps, eps_c=eps)) as counts:
                counts.begin("p")
                counts.add(0, 0, energies, numpy.zeros(heads))
                counts.commit()
            kept[eps] = load_file(self.folder / f"{eps}")["count"][0, :, 0].astype(bool)
            for head in range(heads):
                for row in range(blocks):
                    self.check_minimal(energies[head, row].astype(float), kept[eps][head, row],
                                       eps, row)
        steps = list(kept.values())
        for less, more in zip(steps, steps[1:]):
            self.assertTrue((more | ~less).all())

    def check_minimal(self, row, kept, eps, diagonal):
        wanted = eps * row.sum()
        self.assertGreaterEqual(row[kept].sum(), wanted - 1e-12)
        # The largest blocks, but for one fewer, do not reach it; the diagonal may come on top.
        largest = numpy.sort(row)[::-1]
        needed = kept.sum() - (1 if row[kept].sum() - row[diagonal] >= wanted - 1e-12 else 0)
        self.assertLess(largest[:needed - 1].sum(), wanted + 1e-12)


class SharingTest(counts_test.Case):
    """What `calibatt compile --share-steps` computes is what the definition says."""

    def test_shared_masks_are_the_unions_of_the_definition(self):
        if not Path(counts_test.TOOL).with_name("calibatt-compile").exists():
            self.skipTest("calibatt-compile is not built")
        blocks, steps = 7, 12
        masks = [(self.random.random((blocks, blocks)) < 0.5) | numpy.eye(blocks, dtype=bool)]
        for _ in range(steps - 1):  # some steps change nothing, most little
            flips = self.random.random((blocks, blocks)) < self.random.choice([0, 0.02, 0.2])
            masks.append(masks[-1] ^ flips | numpy.eye(blocks, dtype=bool))
        document = {"format": "calibatt.bitmaps", "version": "1.0", "model": "m",
                    "grid": [2, 15, 29], "layers": 1, "heads": 1, "head_dim": 64,
                    "steps": [{"timestep": 1.0 - s / steps, "sigma": 0.5,
                               "module": "transformer"} for s in range(steps)]}
        save_file({f"mask/0/{s}": numpy.packbits(mask, axis=1, bitorder="little")[None]
                   for s, mask in enumerate(masks)}, self.folder / "masks",
                  metadata={"calibatt": json.dumps(document)})
        tool("profile", "import", self.folder / "masks", "-o", self.folder / "p")
        package, tau = self.folder / "m.calibatt", 0.85
        tool("compile", self.folder / "p", "-o", package, "--form", "table", "--share-steps", tau)
        for step, shared in enumerate(method.share_steps(masks, tau)):
            got, _ = counts_test.masks(package, 0, step)
            numpy.testing.assert_array_equal(got[0], shared, f"step {step}")


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
