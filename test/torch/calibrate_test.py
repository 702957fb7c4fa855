"""Pipelines of diffusers, calibrated on the CPU: what is counted is what their modules attend to."""

import copy
import os
import tempfile
import unittest
import warnings

try:
    import numpy
    import torch
    import diffusers
except ImportError as error:
    raise unittest.SkipTest(f"torch and diffusers are not installed ({error})")

import attention_reference as reference
import enable_test
import processors_test
import tiny_pipelines as tiny

import calibatt
from calibatt.counts import Counts
from calibatt.diffusers.identity import model_id
from calibatt.diffusers.models import transformers_of
from calibatt.energies import CpuEnergies, EnergySource, PackageEnergies

GRID, STEPS = (3, 7, 13), 3  # 273 tokens: two blocks of 128 and a tail of 17


class Recording(EnergySource):
    """Keeps what was measured, in the order of the calls."""

    def __init__(self, source=None):
        self.source = source or CpuEnergies()
        self.measured = []

    def measure(self, q, k, v, geometry, text, epsilon):
        result = self.source.measure(q, k, v, geometry, text, epsilon)
        self.measured.append((result, text))
        return result


class CalibrateTest(unittest.TestCase):
    def setUp(self):
        self.seed = int.from_bytes(os.urandom(4), "little")
        torch.manual_seed(self.seed)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.enterContext(torch.no_grad())
        self.out = os.path.join(folder.name, "P.counts.safetensors")

    def calibrate(self, pipe, **options):
        options.setdefault("progress", False)
        return calibatt.diffusers.calibrate(pipe, self.out, **options)

    def compare(self, measured, q, k, blocks):
        (energies, repetition, row_max, *_), text = measured
        matrix = reference.attention_matrix(q, k)
        what = f"seed {self.seed}"
        numpy.testing.assert_allclose(
            energies, reference.block_energies(matrix, blocks), atol=2e-6, err_msg=what)
        numpy.testing.assert_allclose(
            repetition, reference.repetition(matrix, GRID), atol=1e-5, err_msg=what)
        logits = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).amax(dim=(1, 2))
        numpy.testing.assert_allclose(row_max, logits.numpy(), rtol=1e-4, err_msg=what)
        self.assertEqual(text, matrix.shape[1] - 273)

    def observed_pipeline(self, pipe, modules, calls):
        """Energies measured in one run of `pipe`, and what its modules were given."""
        plain = tiny.run(pipe, self.seed % 100, GRID, STEPS)
        inputs = reference.AttentionInputs(modules)
        self.addCleanup(inputs.remove)
        recording = Recording()
        with self.calibrate(pipe, energies=recording):
            out = tiny.run(pipe, self.seed % 100, GRID, STEPS)
        self.assertTrue(torch.equal(out, plain), "calibration changed what the pipeline makes")
        self.assertEqual([len(layer) for layer in inputs.calls], [calls] * len(modules))
        self.assertEqual(len(recording.measured), STEPS * len(modules))
        return recording.measured, inputs

    def test_energies_of_wan_are_those_of_its_modules_in_the_conditional_branch(self):
        pipe = tiny.wan()
        modules = [block.attn1 for block in pipe.transformer.blocks]
        measured, inputs = self.observed_pipeline(pipe, modules, 2 * STEPS)
        for step in range(STEPS):
            for layer in range(len(modules)):
                # The pipeline runs the conditional branch first.
                q, k = inputs.wan(layer, 2 * step)
                self.compare(measured[step * len(modules) + layer], q, k, 3)

    def test_energies_of_mochi_are_those_of_the_second_of_its_batch_of_two_with_its_text(self):
        pipe = tiny.mochi()
        modules = [block.attn1 for block in pipe.transformer.transformer_blocks]
        measured, inputs = self.observed_pipeline(pipe, modules, STEPS)
        self.assertEqual(measured[0][1], 7 + self.seed % 100 % 4)
        for step in range(STEPS):
            for layer in range(len(modules)):
                q, k = inputs.mochi(layer, step, element=1)
                self.compare(measured[step * len(modules) + layer], q, k, 3)

    def test_energies_of_hunyuan_video_are_those_of_its_double_and_single_blocks_with_text(self):
        pipe = tiny.hunyuan()
        model = pipe.transformer
        modules = [block.attn for block in (*model.transformer_blocks, *model.single_transformer_blocks)]
        measured, inputs = self.observed_pipeline(pipe, modules, 2 * STEPS)
        self.assertEqual(measured[0][1], 9 - self.seed % 100 % 3)
        for step in range(STEPS):
            for layer in range(len(modules)):
                q, k = inputs.hunyuan(layer, 2 * step)
                self.compare(measured[step * len(modules) + layer], q, k, 3)

    def test_a_compiled_transformer_is_calibrated_as_it_is_without(self):
        ways = {
            "torch.compile": lambda pipe: setattr(
                pipe, "transformer", torch.compile(pipe.transformer, backend="eager")),
            "compile()": lambda pipe: pipe.transformer.compile(backend="eager"),
            "blocks": lambda pipe: pipe.transformer.compile_repeated_blocks(backend="eager"),
        }
        pipe, made = tiny.wan(), {}
        for name, compile_it in {"not": lambda pipe: None, **ways}.items():
            torch._dynamo.reset()
            one = copy.deepcopy(pipe)
            compile_it(one)
            made[name] = Recording()
            with self.calibrate(one, energies=made[name]) as calibration:
                with calibration.prompt(name):
                    tiny.run(one, 3, GRID, STEPS)
        for name in ways:
            self.assertEqual(len(made[name].measured), 2 * STEPS)
            for (got, _), (wanted, _) in zip(made[name].measured, made["not"].measured):
                numpy.testing.assert_allclose(got[0], wanted[0], atol=1e-6, err_msg=name)

    def test_energies_that_a_package_leaves_beside_its_attention_are_those_of_the_cpu(self):
        pipe = tiny.wan()
        masks = numpy.ones((2, STEPS, tiny.HEADS, 3, 3), dtype=bool)
        measured = []
        with tempfile.TemporaryDirectory() as folder:
            package = self.enterContext(calibatt.load(enable_test.compiled(folder, "any", masks)))
            for source in (CpuEnergies(), PackageEnergies(package)):
                recording = Recording(source)
                with self.calibrate(pipe, energies=recording) as calibration:
                    with calibration.prompt(f"prompt of {type(source).__name__}"):
                        out = tiny.run(pipe, 3, GRID, STEPS)
                measured.append((recording.measured, out))
        (cpu, plain), (kernels, out) = measured
        self.assertLess(((out - plain).norm() / plain.norm()).item(), 1e-5)
        self.assertEqual(len(cpu), len(kernels))
        for (wanted, _), (got, _) in zip(cpu, kernels):
            for name in ("energies", "repetition", "row_max"):
                numpy.testing.assert_allclose(
                    getattr(got, name), getattr(wanted, name), atol=2e-5, err_msg=name)
            self.assertEqual(got.out.shape, (1, tiny.HEADS, 273, tiny.HEAD_DIM))
        with Counts(self.out) as counts:
            self.assertEqual(counts.info()["prompts"], 2)

    def test_the_counts_say_what_was_run(self):
        pipe = tiny.mochi()
        with self.calibrate(pipe) as calibration:
            tiny.run(pipe, 1, GRID, STEPS)
            with calibration.prompt("a cat"):
                tiny.run(pipe, 2, GRID, STEPS)
            self.assertIn("a cat", calibration)
        with Counts(self.out) as counts:
            info = counts.info()
            prompts = counts.prompts()
        self.assertEqual((info["frames"], info["height"], info["width"]), GRID)
        self.assertEqual((info["layers"], info["heads"], info["steps"], info["head_dim"]), (2, 2, 3, 64))
        self.assertEqual(info["max_text"], tiny.TEXT_TOKENS)
        self.assertEqual(info["model"], calibration.model)
        self.assertEqual(len(prompts), 2)
        self.assertIn("a cat", prompts)
        self.assertRegex(" ".join(prompts), "text-[0-9a-f]{16}")

    def test_both_transformers_of_wan_2_2_are_counted_each_in_its_steps(self):
        pipe = tiny.wan(two_transformers=True)
        modules = [[block.attn1 for block in model.blocks]
                   for model in (pipe.transformer, pipe.transformer_2)]
        early, late = (reference.AttentionInputs(layers) for layers in modules)
        recording = Recording()
        with self.calibrate(pipe, energies=recording) as calibration:
            tiny.run(pipe, 3, GRID, steps=4)
            steps = calibration.steps
        names = [step["module"] for step in steps]
        self.assertEqual(names, sorted(names))
        self.assertEqual(set(names), {"transformer", "transformer_2"})
        first_late = names.index("transformer_2")
        for step in range(4):
            for layer in range(2):
                inputs, call = (early, step) if step < first_late else (late, step - first_late)
                q, k = inputs.wan(layer, 2 * call)
                self.compare(recording.measured[2 * step + layer], q, k, 3)

    def test_a_calibration_that_was_stopped_goes_on_with_the_prompts_that_are_missing(self):
        pipe = tiny.wan()

        def stop(pipe, step, timestep, tensors):
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt), self.calibrate(pipe) as calibration:
            with calibration.prompt("first"):
                tiny.run(pipe, 1, GRID, STEPS)
            with calibration.prompt("second"):
                tiny.run(pipe, 2, GRID, STEPS, callback_on_step_end=stop)
        with self.calibrate(pipe) as calibration:
            self.assertIn("first", calibration)
            self.assertNotIn("second", calibration)
            with calibration.prompt("second"):
                tiny.run(pipe, 2, GRID, STEPS)
        with Counts(self.out) as counts:
            self.assertEqual(counts.prompts(), ["first", "second"])

    def test_a_pipeline_that_stops_early_counts_nothing_and_says_so(self):
        pipe = tiny.wan()

        def stop(pipe, step, timestep, tensors):
            pipe._interrupt = True
            return tensors

        with self.assertWarnsRegex(UserWarning, "text-.* is not counted: the pipeline stopped"):
            with self.calibrate(pipe):
                tiny.run(pipe, 1, GRID, STEPS, callback_on_step_end=stop)
                tiny.run(pipe, 2, GRID, STEPS)
        with Counts(self.out) as counts:
            self.assertEqual(counts.info()["prompts"], 1)

    def test_nan_is_named_by_layer_and_step_and_that_prompt_is_not_counted(self):
        pipe = tiny.wan()
        weight = pipe.transformer.blocks[1].attn1.norm_k.weight

        def poison(pipe, step, timestep, tensors):
            if step == 0:
                with torch.no_grad():
                    weight[5] = float("nan")
            return tensors

        with self.calibrate(pipe) as calibration:
            good = weight[5].item()
            with warnings.catch_warnings(record=True) as told, calibration.prompt("bad"):
                warnings.simplefilter("always")
                tiny.run(pipe, 1, GRID, STEPS, callback_on_step_end=poison)
            with torch.no_grad():
                weight[5] = good
            with calibration.prompt("good"):
                tiny.run(pipe, 2, GRID, STEPS)
            self.assertRegex(calibration.refused["bad"], "^layer 1, step 1: .*(NaN|nan)")
        self.assertIn("'bad' is not counted: layer 1, step 1", " ".join(str(w.message) for w in told))
        with Counts(self.out) as counts:
            self.assertEqual(counts.prompts(), ["good"])

    def test_what_changes_in_mid_run_is_refused(self):
        pipe = tiny.wan()
        cases = [
            ("the grid changed from 3x7x13 to 3x7x12", {"grid": (3, 7, 12)}),
            ("the schedule changed from 3 steps from timestep .* to 4 steps", {"steps": 4}),
        ]
        with self.calibrate(pipe):
            tiny.run(pipe, 1, GRID, STEPS)
            for words, changed in cases:
                with self.subTest(words), self.assertRaisesRegex(calibatt.Error, words):
                    tiny.run(pipe, 2, **({"grid": GRID, "steps": STEPS} | changed))
            pair = tiny.arguments(pipe, 2, GRID, STEPS)
            pair = {name: torch.cat([value] * 2) if torch.is_tensor(value) else value
                    for name, value in pair.items()}
            with self.assertRaisesRegex(calibatt.Error, "with 2 videos, wanted one prompt"):
                pipe(**pair)
        with Counts(self.out) as counts:
            self.assertEqual(counts.info()["prompts"], 1)

    def test_counts_of_another_model_are_refused(self):
        with self.calibrate(pipe := tiny.wan()):
            tiny.run(pipe, 1, GRID, STEPS)
        with self.calibrate(other := tiny.wan()) as calibration:
            for seed in (1, 2):  # a prompt that is counted, and another
                with self.assertRaisesRegex(calibatt.Error, f"model .*, wanted .*{calibration.model}"):
                    tiny.run(other, seed, GRID, STEPS)
        with Counts(self.out) as counts:
            self.assertEqual(counts.info()["prompts"], 1)

    def test_a_pipeline_is_as_it_was_after_a_calibration(self):
        pipe = tiny.wan()
        before = [block.attn1.processor for block in pipe.transformer.blocks]
        with self.calibrate(pipe):
            with self.assertRaisesRegex(calibatt.Error, "transformer is already calibrated or enabled"):
                with self.calibrate(pipe):
                    pass
            self.assertNotEqual([block.attn1.processor for block in pipe.transformer.blocks], before)
        self.assertEqual([block.attn1.processor for block in pipe.transformer.blocks], before)
        self.assertNotIn("cache_context", vars(pipe.transformer))
        self.assertFalse(pipe.transformer._forward_pre_hooks or pipe.transformer._forward_hooks)

    def test_other_transformers_are_refused_by_name(self):
        pipe = tiny.wan()
        pipe.register_modules(transformer=torch.nn.Linear(2, 2))
        with self.assertRaisesRegex(calibatt.Error, "transformer is a Linear, wanted WanTransformer3D"):
            calibatt.diffusers.calibrate(pipe, self.out)

    def test_attention_backends_and_scales_that_a_block_has_do_not_change_what_is_counted_silently(self):
        pipe = tiny.wan()
        plain = tiny.run(pipe, 1, GRID, STEPS)
        for block in pipe.transformer.blocks:
            block.attn1.processor._attention_backend = "flex"
        with self.calibrate(pipe):
            self.assertTrue(torch.equal(tiny.run(pipe, 1, GRID, STEPS), plain))
        with Counts(self.out) as counts:
            self.assertEqual(counts.info()["prompts"], 1)
        pipe.transformer.reset_attention_backend()
        pipe.transformer.blocks[1].attn1.processor = processors_test.Own(
            lambda q, k, v: processors_test.by_pytorch(q, k, v, scale=0.5))
        with self.calibrate(pipe), self.assertRaisesRegex(
                calibatt.Error, "layer 1: attention with scale 0.5, counts are of 0.125"):
            tiny.run(pipe, 2, GRID, STEPS)

    def test_a_transformer_without_its_pipeline_is_refused(self):
        pipe = tiny.wan()
        call = tiny.arguments(pipe, 0, GRID, STEPS)
        with self.calibrate(pipe), self.assertRaisesRegex(calibatt.Error, "outside of cache_context"):
            pipe.transformer(call["latents"], torch.tensor([500.0]), call["prompt_embeds"])


if __name__ == "__main__":
    unittest.main()
