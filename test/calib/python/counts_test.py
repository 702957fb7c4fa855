"""Counts and selections against the definitions in NumPy (method_reference.py)."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy
from safetensors.numpy import load_file

import method_reference as method
import profile_abi as abi

TOOL = os.environ["CALIBATT_TOOL"]


def tool(*arguments, exit_code=0):
    done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != exit_code:
        raise AssertionError(f"{arguments}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout if exit_code == 0 else done.stderr


def masks(profile, layer, step):
    """[heads, B, B] bool."""
    shown = json.loads(tool("inspect", "mask", profile, f"{layer},*,{step}", "--json"))
    result = []
    for site in shown["sites"]:
        mask = numpy.zeros((shown["blocks"], shown["blocks"]), bool)
        for row, runs in enumerate(site["rows"]):
            for first, last in runs:
                mask[row, first:last + 1] = True
        result.append(mask)
    return numpy.array(result), shown["sites"]


def random_energies(random, heads, blocks):
    """Rows that sum to 1: flat, peaked, with ties and zeros."""
    weights = numpy.exp(random.choice([0.0, 0.5, 2.0, 6.0], (heads, blocks, 1)) *
                        random.normal(size=(heads, blocks, blocks)))
    tied = random.random((heads, blocks, 1)) < 0.3
    weights = numpy.where(tied, random.integers(0, 4, weights.shape) / 4 + 1e-3, weights)
    weights[random.random(weights.shape) < 0.02] = 0
    weights[..., 0] += 1e-6
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(numpy.float32)


class Prompt:
    """Random measurements of a whole prompt."""

    def __init__(self, random, layers, steps, heads, blocks):
        self.energies = {(l, s): random_energies(random, heads, blocks)
                         for l in range(layers) for s in range(steps)}
        self.repetition = random.uniform(-1, 1, (layers, steps, heads)).astype(numpy.float32)
        self.row_max = random.normal(0, 30, (layers, steps, heads)).astype(numpy.float32)

    def add_to(self, counts, name, shuffle=None):
        counts.begin(name)
        sites = list(self.energies)
        if shuffle is not None:
            shuffle.shuffle(sites)
        for layer, step in sites:
            counts.add(layer, step, self.energies[layer, step], self.repetition[layer, step],
                       self.row_max[layer, step])
        counts.commit()


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.seed = int.from_bytes(os.urandom(4), "little")
        self.random = numpy.random.default_rng(self.seed)

    def run(self, result=None):
        super().run(result)
        if result is not None and (result.failures or result.errors):
            print(f"{self.id()}: seed {self.seed}", flush=True)


class EnergyTest(Case):
    def test_energies_scores_maxima_and_lse_are_those_of_the_whole_attention_matrix(self):
        for grid, text, max_text in [((3, 7, 13), 0, 0), ((2, 6, 11), 9, 140), ((1, 3, 128), 0, 0)]:
            heads, dim, tokens = 2, 64, grid[0] * grid[1] * grid[2] + text
            q, k = (self.random.normal(0, 1.5, (tokens, heads, dim)).astype(numpy.float32)
                    .transpose(1, 0, 2) for _ in range(2))  # strides of [tokens, heads, dim]
            got = abi.block_energies(q, k, grid, max_text=max_text)
            for head in range(heads):
                p = method.attention(q[head], k[head], dim**-0.5)
                blocks = -(-(tokens - text + max_text) // 128)
                wanted = method.energies(p, blocks)
                numpy.testing.assert_allclose(got[0][head], wanted, rtol=2e-6, atol=1e-12)
                used = -(-tokens // 128)
                numpy.testing.assert_allclose(got[0][head, :used].sum(axis=1), 1, rtol=1e-6)
                self.assertAlmostEqual(got[1][head], method.repetition(p, grid, 5), places=6)
                logits = q[head].astype(float) @ k[head].astype(float).T * dim**-0.5
                self.assertAlmostEqual(got[2][head], logits.max(), places=4)
                lse = numpy.log(numpy.exp(logits - logits.max()).sum(axis=1)) + logits.max()
                numpy.testing.assert_allclose(got[3][head], lse, rtol=1e-6)

    def test_bf16_is_read_as_bf16(self):
        grid, tokens = (1, 5, 30), 150
        bits = (self.random.normal(0, 1, (2, 1, tokens, 64)).astype(numpy.float32)
                .view(numpy.uint32) >> 16)
        halves = bits.astype(numpy.uint16)
        whole = (bits << 16).view(numpy.float32)
        for a, b in zip(abi.block_energies(*halves, grid), abi.block_energies(*whole, grid)):
            numpy.testing.assert_array_equal(a, b)

    def test_values_that_are_not_finite_are_named(self):
        q = self.random.normal(size=(2, 150, 64)).astype(numpy.float32)
        k = q.copy()
        k[1, 17, 3] = numpy.inf
        with self.assertRaisesRegex(abi.Refused, "k: infinity at head 1, token 17, channel 3"):
            abi.block_energies(q, k, (1, 5, 30))


class CountsCase(Case):
    """Counts of random prompts, and what the definitions make of them."""
    grid, layers, heads, steps = (3, 20, 29), 2, 3, 4  # 1,740 tokens: 14 blocks, tail 76
    max_text = 0

    def problem(self, **fields):
        return abi.problem(self.grid, self.layers, self.heads, self.steps,
                           max_text=self.max_text, **fields)

    @property
    def tokens(self):
        return self.grid[0] * self.grid[1] * self.grid[2] + self.max_text

    @property
    def blocks(self):
        return -(-self.tokens // 128)

    def fixed(self):
        return method.always(self.blocks, self.tokens - self.max_text, self.max_text)

    def prompts(self, count):
        return [Prompt(self.random, self.layers, self.steps, self.heads, self.blocks)
                for _ in range(count)]

    def calibrate(self, path, prompts, **fields):
        with abi.Counts(path, self.problem(**fields)) as counts:
            for name, prompt in prompts.items():
                prompt.add_to(counts, name, self.random)
            return [counts.epsilon(step) for step in range(self.steps)]

    def reference(self, prompts, eps):
        """Counts and sums of units, [layers, steps, heads, B, B]."""
        shape = self.layers, self.steps, self.heads, self.blocks, self.blocks
        counts, sums = numpy.zeros(shape, int), numpy.zeros(shape, numpy.int64)
        for prompt in prompts:
            for (layer, step), energies in prompt.energies.items():
                for head, e in enumerate(energies):
                    kept = method.prompt_cover(e, eps[step], self.tokens - self.max_text,
                                               self.max_text)
                    counts[layer, step, head] += kept
                    sums[layer, step, head] += method.units(e)
        return counts, sums


class CountsTest(CountsCase):
    def test_the_file_has_the_counts_and_sums_of_the_definitions(self):
        prompts = {f"prompt {i}": p for i, p in enumerate(self.prompts(5))}
        eps = self.calibrate(self.folder / "c", prompts)
        for step in range(self.steps):
            self.assertAlmostEqual(
                eps[step], method.epsilon(0.763, 0.863, 5.64, step, self.steps), places=12)
        counts, sums = self.reference(prompts.values(), eps)
        tensors = load_file(self.folder / "c")
        by_step = (0, 2, 1, 3, 4)  # the file has heads before steps
        numpy.testing.assert_array_equal(tensors["count"].transpose(by_step), counts)
        numpy.testing.assert_array_equal(tensors["energy_sum"].transpose(by_step), sums)
        numpy.testing.assert_array_equal(tensors["kept"].transpose(0, 2, 1),
                                         counts.sum(axis=(3, 4)))
        scores = sum(method.score_units(p.repetition) for p in prompts.values())
        numpy.testing.assert_array_equal(tensors["repetition"].transpose(0, 2, 1), scores)
        numpy.testing.assert_array_equal(
            tensors["row_max"].transpose(0, 2, 1),
            numpy.max([p.row_max for p in prompts.values()], axis=0))
        ids = [bytes(row).rstrip(b"\0").decode() for row in tensors["prompt_ids"]]
        self.assertEqual(ids, sorted(prompts) + [""] * 250)

    def check_selection(self, profile, counts, sums, prompts, rho=0.5, gamma=0.87, band=0,
                        bound=0):
        scores = numpy.mean([p.repetition for p in prompts], axis=0, dtype=float)
        fixed = self.fixed()
        before = {}
        for layer in range(self.layers):
            for step in range(self.steps):
                got, sites = masks(profile, layer, step)
                for head in range(self.heads):
                    where = f"layer {layer}, step {step}, head {head}"
                    here = counts[layer, step, head], sums[layer, step, head], len(prompts)
                    site = sites[head]
                    self.assertAlmostEqual(site["repetition"], scores[layer, step, head], places=6)
                    if scores[layer, step, head] >= gamma:
                        self.assertTrue(got[head].all(), where)
                        before.pop((layer, head), None)
                        continue
                    mask = method.vote(*here, rho, fixed)
                    if band:
                        if (layer, head) in before:
                            mask = method.hysteresis(*here, rho, band, before[layer, head], fixed)
                        before[layer, head] = mask
                    if bound:
                        mask = method.without_singletons(mask, *here[1:], bound, fixed)
                    numpy.testing.assert_array_equal(got[head], mask, where)
                    self.assertAlmostEqual(
                        site["kept_mass"], method.kept_mass(mask, here[1], self.tokens), places=6)
                    self.assertAlmostEqual(site["computed"], mask.mean(), places=6)

    def test_selections_are_those_of_the_definitions(self):
        prompts = {f"p{i}": p for i, p in enumerate(self.prompts(6))}
        eps = self.calibrate(self.folder / "c", prompts)
        counts, sums = self.reference(prompts.values(), eps)
        for options in [{}, {"rho": 0.2}, {"rho": 1.0, "gamma": 0.3}, {"band": 0.3},
                        {"bound": 0.7}, {"rho": 0.6, "gamma": 0.2, "band": 0.25, "bound": 2.0}]:
            with self.subTest(options):
                names = {"band": "hysteresis", "bound": "singletons"}
                with abi.Counts(self.folder / "c") as opened:
                    opened.select(self.folder / "p",
                                  **{names.get(k, k): v for k, v in options.items()})
                self.check_selection(self.folder / "p", counts, sums, list(prompts.values()),
                                     **options)

    def test_a_cover_found_elsewhere_counts_as_one_found_here(self):
        prompts = self.prompts(2)
        eps = self.calibrate(self.folder / "own", {"a": prompts[0], "b": prompts[1]})
        with abi.Counts(self.folder / "given", self.problem()) as counts:
            for name, prompt in zip("ab", prompts):
                counts.begin(name)
                for (layer, step), energies in prompt.energies.items():
                    covers = numpy.array([[method.cover(row, eps[step]) for row in e]
                                          for e in energies])
                    bits = numpy.packbits(covers, axis=2, bitorder="little")
                    for head in range(self.heads):  # one head at a time
                        counts.add(layer, step, energies[head:head + 1],
                                   prompt.repetition[layer, step, head:head + 1],
                                   prompt.row_max[layer, step, head:head + 1], head_begin=head,
                                   cover=bits[head:head + 1])
                counts.commit()
        self.assertEqual((self.folder / "own").read_bytes(), (self.folder / "given").read_bytes())

    def test_progress_tells_prompts_sites_and_densities(self):
        prompt = self.prompts(1)[0]
        with abi.Counts(self.folder / "c", self.problem()) as counts:
            self.assertEqual(counts.info().density, 0)
            counts.begin("one")
            counts.add(1, 2, prompt.energies[1, 2], prompt.repetition[1, 2])
            info = counts.info()
            self.assertEqual((info.prompt_open, info.sites_added, info.prompts),
                             (1, self.heads, 0))
            kept = [method.prompt_cover(e, counts.epsilon(2), self.tokens - self.max_text,
                                        self.max_text).mean() for e in prompt.energies[1, 2]]
            numpy.testing.assert_allclose(counts.density(1, 2), kept, rtol=1e-6)
            self.assertAlmostEqual(info.density, numpy.mean(kept), places=9)
            numpy.testing.assert_array_equal(counts.density(0, 0), 0)
            counts.abandon()
            self.assertEqual(counts.info().density, 0)
            prompt.add_to(counts, "one")
            self.assertEqual(counts.prompts(), ["one"])
            self.assertTrue(counts.has("one") and not counts.has("two"))
            numpy.testing.assert_allclose(counts.density(1, 2), kept, rtol=1e-6)


class JointTextTest(CountsTest):
    """The same with text after the video: 1,682 + 200 tokens, text from block 13 on."""
    grid, max_text = (2, 29, 29), 200


if __name__ == "__main__":
    unittest.main()
