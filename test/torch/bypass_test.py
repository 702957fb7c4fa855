"""Calls that do not come through the package are noticed, and only what is ours is taken back."""

import copy
import json
import os
import pickle
import tempfile
import unittest

try:
    import numpy
    import torch
    import diffusers
except ImportError as error:
    raise unittest.SkipTest(f"torch and diffusers are not installed ({error})")

from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from safetensors.torch import load_file

import masked_reference as reference
import tiny_pipelines as tiny
from enable_test import GRID, STEPS, package_of, random_masks

import calibatt

enable = calibatt.diffusers.enable


class BypassTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())

    def setUp(self):
        self.enterContext(torch.no_grad())
        self.pipe, self.masks = tiny.wan(), random_masks()
        self.path = package_of(self.folder, self.pipe, self.masks)

    def run_pipe(self, pipe=None):
        return tiny.run(pipe or self.pipe, 5, GRID, STEPS)

    def processors(self):
        return [block.attn1.processor for block in self.pipe.transformer.blocks]

    def test_processors_set_while_enabled_end_the_call_and_stay_after_disable(self):
        dense = self.run_pipe()
        ways = {
            "set_attn_processor": lambda: self.pipe.transformer.set_attn_processor(WanAttnProcessor()),
            "set_processor": lambda: self.pipe.transformer.blocks[1].attn1.set_processor(WanAttnProcessor()),
        }
        for name, change in ways.items():
            for compiled in (False, True):
                with self.subTest(name, compiled=compiled):
                    original = self.processors()
                    if compiled:
                        torch._dynamo.reset()
                        self.pipe.transformer.compile(backend="aot_eager")
                    with enable(self.pipe, self.path):
                        self.run_pipe()
                        ours = self.processors()
                        change()
                        with self.assertRaisesRegex(
                                calibatt.Error, "transformer, step 0: the attention of layers (0, )?1 did not run "
                                r"from .*set WanAttnProcessor for layer [01] after enable"):
                            self.run_pipe()
                        changed = [layer for layer, now in enumerate(self.processors()) if now is not ours[layer]]
                    self.assertTrue(changed)
                    for layer, now in enumerate(self.processors()):
                        self.assertEqual(now is original[layer], layer not in changed)
                    self.pipe.transformer._compiled_call_impl = None
        with enable(self.pipe, self.path, allow_dense=True) as enabled:
            self.pipe.transformer.set_attn_processor(WanAttnProcessor())
            self.assertTrue(torch.equal(self.run_pipe(), dense))
            self.assertEqual(enabled.stats()["bypassed_layers"], 2 * 2 * STEPS)
            self.assertEqual(enabled.package.stats(), {})

    def test_blocks_and_attention_modules_replaced_while_enabled_end_the_call(self):
        block = copy.deepcopy(self.pipe.transformer.blocks[0])
        with enable(self.pipe, self.path):
            self.pipe.transformer.blocks[0] = block
            with self.assertRaisesRegex(calibatt.Error, "layers 0 did not run .*WanAttnProcessor for layer 0"):
                self.run_pipe()
        pipe = tiny.wan()
        path = package_of(self.folder, pipe, self.masks)
        with enable(pipe, path):
            attention = pipe.transformer.blocks[1].attn1
            attention.forward = lambda hidden_states, *_: hidden_states
            with self.assertRaisesRegex(calibatt.Error, "layers 1 did not run .*nothing that skips layers is known"):
                self.run_pipe(pipe)

    def test_a_transformer_replaced_while_enabled_is_refused_and_told_at_disable(self):
        other = tiny.wan_transformer()
        with self.assertWarnsRegex(UserWarning, "transformer was replaced while enabled"):
            with enable(self.pipe, self.path):
                request = copy.copy(self.pipe)
                self.run_pipe(request)
                for pipe in (self.pipe, request):
                    pipe.transformer = other
                    with self.assertRaisesRegex(calibatt.Error, "transformer was replaced after enable"):
                        self.run_pipe(pipe)
        self.assertIs(self.pipe.transformer, other)
        self.assertIs(type(self.pipe), diffusers.WanPipeline)
        self.run_pipe()
        self.run_pipe(request)
        self.assertFalse(other._forward_pre_hooks)

    def test_a_state_dict_loaded_while_enabled_is_refused_at_the_next_call(self):
        weights = tiny.wan_transformer().state_dict()
        mine = copy.deepcopy(self.pipe.transformer.state_dict())
        for assign in (False, True):
            with self.subTest(assign=assign):
                self.pipe.transformer.load_state_dict(mine)
                with enable(self.pipe, self.path) as enabled:
                    self.run_pipe()
                    calls = enabled.stats()["calls"]
                    self.pipe.transformer.load_state_dict(weights, assign=assign)
                    with self.assertRaisesRegex(calibatt.Error, "the model is no longer what it was when enabled"):
                        self.run_pipe()
                    self.assertEqual(enabled.stats()["calls"], calls)
                    self.pipe.transformer.load_state_dict(mine)
                    self.run_pipe()

    def test_a_weight_that_changes_between_two_steps_ends_the_run(self):
        def change(pipe, step, timestep, tensors):
            if step == 1:
                pipe.transformer.blocks[0].attn1.to_q.weight.mul_(1.5)
            return tensors

        with enable(self.pipe, self.path) as enabled:
            with self.assertRaisesRegex(calibatt.Error, "the model is no longer"):
                tiny.run(self.pipe, 5, GRID, STEPS, callback_on_step_end=change)
            self.assertEqual(enabled.stats()["calls"], 4)

    def test_caches_leave_layers_out_and_they_are_counted(self):
        config = diffusers.FirstBlockCacheConfig(threshold=10.0)
        with enable(self.pipe, self.path) as enabled:
            whole = self.run_pipe()
            self.assertEqual(enabled.stats()["skipped_layers"], 0)
            self.pipe.transformer.enable_cache(config)
            cached = self.run_pipe()
            skipped = enabled.stats()["skipped_layers"]
            self.assertGreater(skipped, 0)
            self.pipe.transformer.disable_cache()
            self.assertTrue(torch.equal(self.run_pipe(), whole))
        timesteps = [step["timestep"] for step in reference.schedule(self.pipe, STEPS)]

        def with_cache():
            self.pipe.transformer.enable_cache(config)
            try:
                return self.run_pipe()
            finally:
                self.pipe.transformer.disable_cache()

        wanted, _ = reference.masked(self.pipe, self.masks, with_cache, timesteps)
        self.assertLess(reference.error(cached, wanted), 1e-5)

    def test_caches_are_named_and_refused_by_calibration(self):
        configs = {
            "FirstBlockCacheConfig": diffusers.FirstBlockCacheConfig(threshold=0.1),
            "PyramidAttentionBroadcastConfig": diffusers.PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=2, spatial_attention_timestep_skip_range=(100, 800),
                current_timestep_callback=lambda: 500),
            "FasterCacheConfig": diffusers.FasterCacheConfig(
                spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500),
            "TaylorSeerCacheConfig": diffusers.TaylorSeerCacheConfig(),
        }
        out = os.path.join(self.folder, "counts")
        for name, config in configs.items():
            with self.subTest(name):
                pipe = tiny.wan()
                with calibatt.diffusers.calibrate(pipe, out, progress=False):
                    pipe.transformer.enable_cache(config)
                    with self.assertRaisesRegex(calibatt.Error, f"transformer: .*{name}.* leaves attention out"):
                        self.run_pipe(pipe)
                with self.assertRaisesRegex(calibatt.Error, f"{name}.* leaves attention out"):
                    with calibatt.diffusers.calibrate(pipe, out, progress=False):
                        pass
                self.assertFalse(pipe.transformer._forward_pre_hooks)
        self.assertFalse(os.path.exists(out))

    def test_an_enabled_pipeline_is_disabled_without_its_handle(self):
        before = self.processors()
        self.assertFalse(calibatt.diffusers.disable(self.pipe))
        for find in (lambda: self.pipe, lambda: copy.copy(self.pipe),
                     lambda: diffusers.WanPipeline(**self.pipe.components)):
            enable(self.pipe, self.path)
            self.assertNotEqual(self.processors(), before)
            self.assertTrue(calibatt.diffusers.disable(find()))
            self.assertEqual(self.processors(), before)
            self.assertIs(type(self.pipe), diffusers.WanPipeline)
            self.assertFalse({"_calibatt", "_calibatt_call", "_calibatt_step", "cache_context"}
                             & set(vars(self.pipe.transformer)))
        self.assertFalse(self.pipe.transformer._forward_pre_hooks or self.pipe.transformer._forward_hooks)

    def test_copies_and_pickles_of_an_enabled_pipeline_say_what_to_do(self):
        with enable(self.pipe, self.path) as enabled:
            for what in (self.pipe, self.pipe.transformer, enabled):
                for make in (copy.deepcopy, pickle.dumps):
                    with self.subTest(type(what).__name__, make=make.__name__), self.assertRaisesRegex(
                            calibatt.Error, r"calibatt.diffusers.disable\(pipe\) first"):
                        make(what)
            with tempfile.TemporaryDirectory() as folder:
                self.pipe.save_pretrained(folder)
                with open(os.path.join(folder, "model_index.json")) as file:
                    self.assertEqual(json.load(file)["_class_name"], "WanPipeline")
                folder = os.path.join(folder, "transformer")
                (saved,) = [name for name in os.listdir(folder) if name.endswith(".safetensors")]
                again = load_file(os.path.join(folder, saved))
            self.assertIsInstance(self.pipe, diffusers.WanPipeline)
            weights = self.pipe.transformer.state_dict()
            self.assertEqual(set(weights), set(again))
            request = copy.copy(self.pipe)
        made = copy.deepcopy(self.pipe)
        self.assertIs(type(copy.deepcopy(request)), diffusers.WanPipeline)
        self.assertTrue(torch.equal(self.run_pipe(made), self.run_pipe()))
        pickle.dumps(self.pipe.transformer)

    def test_types_that_no_kernel_has_are_refused_by_enable(self):
        half = tiny.wan(dtype=torch.float16)
        with self.assertRaisesRegex(
                calibatt.Error, "transformer computes in torch.float16 on host, kernels are for torch.bfloat16 and"):
            enable(half, self.path, any_model=True)
        with self.assertRaisesRegex(calibatt.Error, "torch.float32 on cuda, kernels are for torch.bfloat16$"):
            enable(self.pipe, self.path, device="cuda:0")
        self.assertFalse(half.transformer._forward_pre_hooks)


if __name__ == "__main__":
    unittest.main()
