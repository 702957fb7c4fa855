"""`calibatt profile info` of counts, against the same figures computed in NumPy."""

import json
import struct
import unittest

import numpy
from safetensors.numpy import load_file

import counts_test
import method_reference as method
from counts_test import tool


class StabilityTest(counts_test.CountsCase):
    grid, layers, heads, steps = (2, 15, 29), 2, 3, 4  # 870 tokens: 7 blocks, tail 102

    def setUp(self):
        super().setUp()
        self.path, self.other = self.folder / "c", self.folder / "other"
        # Prompts of one kind: noise around the same energies, smooth over steps.
        base = counts_test.random_energies(self.random, self.layers * self.heads, self.blocks)
        base = base.reshape(self.layers, self.heads, self.blocks, self.blocks)

        def prompt():
            made = self.prompts(1)[0]
            for (layer, step), e in made.energies.items():
                noisy = base[layer] * numpy.exp(0.7 * self.random.normal(size=e.shape))
                e[:] = noisy / noisy.sum(axis=-1, keepdims=True)
            made.repetition[:] = numpy.where(self.random.random(made.repetition.shape) < 0.1, 1, 0)
            return made
        self.calibrate(self.path, {f"p{i}": prompt() for i in range(5)})
        self.calibrate(self.other, {f"q{i}": prompt() for i in range(4)})

    def sites(self, path, gamma):
        """(layer, head, step) -> counts, sums; without repetitive sites."""
        tensors = load_file(path)
        prompts = int(tensors["state"][0])
        repetitive = tensors["repetition"] / 2.0**32 / prompts >= gamma
        return prompts, {
            (l, h, s): (tensors["count"][l, h, s].astype(int),
                        tensors["energy_sum"][l, h, s].astype(numpy.int64))
            for l in range(self.layers) for h in range(self.heads) for s in range(self.steps)
            if not repetitive[l, h, s]}

    def check_means(self, shown, sites, masks):
        """The means of a report over some sites."""
        self.assertEqual(shown["sites"] - shown["repetitive_sites"], len(sites))
        if not sites:
            self.assertIsNone(shown["density"])
            return
        prompts, mine = self.mine
        others, theirs = self.theirs

        def mean(values):
            return numpy.mean([values(site) for site in sites])

        def own(site):
            return method.vote(*theirs[site], others, 0.5, self.fixed())
        for name, values in {
                "density": lambda s: masks[s].mean(),
                "kept_mass": lambda s: method.kept_mass(masks[s], mine[s][1], self.tokens),
                "held_out_kept_mass":
                    lambda s: method.kept_mass(masks[s], theirs[s][1], self.tokens),
                "held_out_own_mass": lambda s: method.kept_mass(own(s), theirs[s][1], self.tokens),
                "held_out_recall":
                    lambda s: method.kept_mass(masks[s] & own(s), theirs[s][1], self.tokens) /
                    method.kept_mass(own(s), theirs[s][1], self.tokens)}.items():
            self.assertAlmostEqual(shown[name], mean(values), places=6, msg=name)
        pairs = [(l, h, s) for l, h, s in sites if (l, h, s - 1) in masks]
        if pairs:
            self.assertAlmostEqual(
                shown["iou_with_step_before"],
                numpy.mean([method.iou(masks[l, h, s], masks[l, h, s - 1]) for l, h, s in pairs]),
                places=6)
        else:
            self.assertIsNone(shown["iou_with_step_before"])

    def test_the_report_has_the_figures_of_the_definitions(self):
        shown = json.loads(tool("profile", "info", self.path, "--stability", "--held-out",
                                self.other, "--gamma", "0.3", "--json"))
        self.mine, self.theirs = self.sites(self.path, 0.3), self.sites(self.other, 2)
        prompts, sites = self.mine
        masks = {site: method.vote(*numbers, prompts, 0.5, self.fixed())
                 for site, numbers in sites.items()}
        frequencies = sum(numpy.bincount(counts.ravel(), minlength=prompts + 1)
                          for counts, _ in sites.values())
        self.assertEqual(shown["keep_frequencies"], frequencies.tolist())
        self.check_means(shown["all"], list(sites), masks)
        for step in range(self.steps):
            self.check_means(shown["per_step"][step], [s for s in sites if s[2] == step], masks)
            for layer in range(self.layers):
                self.check_means(shown["per_layer"][layer]["per_step"][step],
                                 [s for s in sites if (s[0], s[2]) == (layer, step)], masks)
        for layer in range(self.layers):
            self.check_means(shown["per_layer"][layer], [s for s in sites if s[0] == layer], masks)
            for head in range(self.heads):
                self.check_means(shown["per_layer"][layer]["per_head"][head],
                                 [s for s in sites if s[:2] == (layer, head)], masks)

    def test_the_page_is_a_picture_and_the_text_a_table(self):
        page = self.folder / "page.png"
        text = tool("profile", "info", self.path, "--stability", "--png", page)
        for word in ("agreement", "kept by", "IoU of steps", "repetitive heads", "page.png"):
            self.assertIn(word, text)
        data = page.read_bytes()
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(struct.unpack(">II", data[16:24]), (1800, 1240))

    def test_counts_say_what_they_are(self):
        shown = json.loads(tool("profile", "info", self.path, "--json"))
        self.assertEqual(shown["prompts"], [f"p{i}" for i in range(5)])
        self.assertEqual(shown["energies"], "sums")
        self.assertAlmostEqual(shown["cover_density"],
                               load_file(self.path)["count"].mean(dtype=float) / 5, places=9)
        self.assertIn("prompts can be added", tool("profile", "info", self.path))

    def test_what_makes_no_sense_is_refused(self):
        error = tool("profile", "info", self.path, "--stability", "--held-out", self.path,
                     exit_code=1)
        self.assertIn("is not held out", error)
        tool("profile", "info", self.path, "--png", self.folder / "x", exit_code=2)
        tool("profile", "select", self.path, "-o", self.folder / "p")
        error = tool("profile", "info", self.folder / "p", "--stability", exit_code=1)
        self.assertIn("is not a file of counts", error)
        error = tool("profile", "info", self.path, "--stability", "--png", self.path, exit_code=1)
        self.assertIn("is an input", error)


if __name__ == "__main__":
    unittest.main()
