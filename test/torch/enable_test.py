"""Pipelines of diffusers that run their attention from a package, on the host device."""

import json
import os
import subprocess
import tempfile
import unittest

try:
    import numpy
    import torch
    import diffusers
except ImportError as error:
    raise unittest.SkipTest(f"torch and diffusers are not installed ({error})")

from safetensors.numpy import save_file

import masked_reference as reference
import tiny_pipelines as tiny

import calibatt
from calibatt.diffusers.identity import model_id
from calibatt.diffusers.models import transformers_of

GRID, STEPS, BLOCKS = (3, 7, 13), 3, 3


def compiled(folder, model, masks, grid=GRID, steps=None):
    """Path of a package of masks [layers, steps, heads, blocks, blocks] and a schedule (without one: of
    timestep 0). The packages of a run differ in their data, not in their code."""
    layers, count, heads, blocks, _ = masks.shape
    bitmaps, profile, package = (
        os.path.join(folder, name) for name in ("bitmaps", "profile", "package.calibatt"))
    bits = numpy.packbits(masks, axis=-1, bitorder="little")
    save_file(
        {f"mask/{layer}/{step}": bits[layer, step] for layer in range(layers) for step in range(count)},
        bitmaps, metadata={"calibatt": json.dumps({
            "format": "calibatt.bitmaps", "version": "1.0", "model": model, "grid": list(grid),
            "layers": layers, "heads": heads, "head_dim": tiny.HEAD_DIM,
            "steps": steps or [{"timestep": 0, "sigma": 0, "module": "transformer"}] * count})})
    for words in (["profile", "import", bitmaps, "-o", profile],
                  ["compile", profile, "-o", package, "--cache", os.path.join(folder, "cache"), "--form", "runs"]):
        subprocess.run([os.environ["CALIBATT_COMMAND"], *words], check=True, capture_output=True)
    return package


def random_masks(layers=2, steps=STEPS):
    masks = numpy.random.default_rng().random((layers, steps, tiny.HEADS, BLOCKS, BLOCKS)) < 0.5
    return masks | numpy.eye(BLOCKS, dtype=bool)


def package_of(folder, pipe, masks, steps=None, **more):
    """The same for a pipeline: its model, and its schedule."""
    steps = steps or reference.schedule(pipe, masks.shape[1])
    return compiled(folder, model_id(transformers_of(pipe)), masks, steps=steps, **more)


class EnableTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())

    def setUp(self):
        self.enterContext(torch.no_grad())

    def package(self, pipe, masks, **more):
        return package_of(self.folder, pipe, masks, **more)

    def masked(self, pipe, masks, steps):
        """The latents of `pipe` where its attention is masked as the package's."""
        timesteps = [step["timestep"] for step in reference.schedule(pipe, steps)]
        return reference.masked(pipe, masks, lambda: tiny.run(pipe, 5, GRID, steps), timesteps)[0]

    def assert_close(self, out, wanted, bound):
        error = ((out.double() - wanted.double()).norm() / wanted.double().norm()).item()
        self.assertLess(error, bound)

    def test_with_every_block_kept_the_pipeline_makes_what_it_made(self):
        masks = numpy.ones((2, STEPS, tiny.HEADS, BLOCKS, BLOCKS), dtype=bool)
        for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
            with self.subTest(dtype=dtype):
                pipe = tiny.wan(dtype=dtype)
                plain = tiny.run(pipe, 5, GRID, STEPS)
                with calibatt.diffusers.enable(pipe, self.package(pipe, masks), device="host") as enabled:
                    self.assert_close(tiny.run(pipe, 5, GRID, STEPS), plain, bound)
                    (stats,) = enabled.package.stats().values()
                self.assertEqual((stats["calls"], stats["dense_fallbacks"]), (2 * STEPS * 2, 0))
                self.assertTrue(torch.equal(tiny.run(pipe, 5, GRID, STEPS), plain))

    def test_every_layer_step_and_head_has_its_own_mask(self):
        pipe, masks = tiny.wan(), random_masks()
        with calibatt.diffusers.enable(pipe, self.package(pipe, masks)):
            out = tiny.run(pipe, 5, GRID, STEPS)
        self.assert_close(out, self.masked(pipe, masks, steps=STEPS), 1e-5)
        plain = tiny.run(pipe, 5, GRID, STEPS)
        self.assertGreater(((out - plain).norm() / plain.norm()).item(), 1e-3)

    def test_both_transformers_of_wan_2_2_run_their_steps_from_one_package(self):
        pipe, masks = tiny.wan(two_transformers=True), random_masks(steps=4)
        with calibatt.diffusers.enable(pipe, self.package(pipe, masks)) as enabled:
            out = tiny.run(pipe, 5, GRID, steps=4)
            (stats,) = enabled.package.stats().values()
        self.assertEqual(stats["calls"], 2 * 2 * 4)
        self.assert_close(out, self.masked(pipe, masks, steps=4), 1e-5)

    def test_a_compiled_transformer_is_one_graph_for_all_steps(self):
        pipe, masks = tiny.wan(), random_masks()
        with calibatt.diffusers.enable(pipe, self.package(pipe, masks)):
            plain = tiny.run(pipe, 5, GRID, STEPS)
            eager = pipe.transformer
            pipe.transformer = torch.compile(eager, backend="aot_eager", fullgraph=True)
            with torch._dynamo.config.patch(error_on_recompile=True):
                out = tiny.run(pipe, 5, GRID, STEPS)
            pipe.transformer = eager
        self.assert_close(out, plain, 1e-6)

    def test_what_does_not_fit_is_refused_before_the_first_launch(self):
        pipe, other = tiny.wan(), tiny.wan()
        path = self.package(pipe, random_masks())
        with self.assertRaisesRegex(calibatt.Error, "was made for WanTransformer3DModel@.*, the pipeline"):
            calibatt.diffusers.enable(other, path)
        with self.assertRaisesRegex(calibatt.Error, "has 2 layers, the pipeline has 3"):
            calibatt.diffusers.enable(tiny.wan(layers=3), path)
        with calibatt.diffusers.enable(other, path, any_model=True) as enabled:
            with self.assertRaisesRegex(calibatt.Error, "has grid 3x7x13, the call has 3x13x7"):
                tiny.run(other, 5, (3, 13, 7), STEPS)
            with self.assertRaisesRegex(calibatt.Error, "has 3 steps, the pipeline runs 4"):
                tiny.run(other, 5, GRID, 4)
            self.assertEqual(enabled.package.stats(), {})
            call = tiny.arguments(other, 5, GRID, STEPS)
            for transformer in (other.transformer, torch.compile(other.transformer, backend="eager")):
                with self.assertRaisesRegex(
                        calibatt.Error, r"timestep 500 is none of its 3 steps \(999, 85[67], (599|600)\)"):
                    transformer(call["latents"], torch.tensor([500.0]), call["prompt_embeds"])
            with self.assertRaisesRegex(calibatt.Error, "layer 0: attention outside of a call"):
                other.transformer.forward(call["latents"], torch.tensor([999]), call["prompt_embeds"])
            with self.assertRaisesRegex(calibatt.Error, "already calibrated or enabled"):
                calibatt.diffusers.enable(other, path, any_model=True)
            tiny.run(other, 5, GRID, STEPS)
        pipe = tiny.wan(dtype=torch.bfloat16)
        with calibatt.diffusers.enable(pipe, path, device="cuda:0", any_model=True):
            with self.assertRaisesRegex(calibatt.Error, "device is 'cuda:0', but the tensors are on 'host'"):
                tiny.run(pipe, 5, GRID, STEPS)

    def test_joint_text_is_refused_by_name(self):
        for pipe, name in ((tiny.mochi(), "Mochi"), (tiny.hunyuan(), "HunyuanVideo")):
            with self.assertRaisesRegex(
                    calibatt.Error, f"{name}Transformer3DModel attends to video and text together"):
                calibatt.diffusers.enable(pipe, "none.calibatt")

    def test_disable_gives_the_pipeline_back_and_closes_what_it_opened(self):
        pipe = tiny.wan()
        path = self.package(pipe, random_masks())
        before = [block.attn1.processor for block in pipe.transformer.blocks]
        enabled = calibatt.diffusers.enable(pipe, path)
        enabled.disable()
        self.assertEqual([block.attn1.processor for block in pipe.transformer.blocks], before)
        self.assertFalse(pipe.transformer._forward_pre_hooks)
        with self.assertRaisesRegex(calibatt.Error, "is closed"):
            enabled.package.site_mask(0, 0, 0)
        with calibatt.load(path) as package:
            calibatt.diffusers.enable(pipe, package).disable()
            self.assertEqual(len(package.site_mask(0, 0, 0)), BLOCKS)

    def test_the_operator_passes_the_checks_of_torch(self):
        pipe = tiny.wan()
        with calibatt.load(self.package(pipe, random_masks())) as package:
            attend = calibatt.torch_op.Operator(package)
            for layout in (lambda x: x, lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)):
                q, k, v = (layout(torch.randn(2, tiny.HEADS, 273, tiny.HEAD_DIM)) for _ in range(3))
                torch.library.opcheck(
                    torch.ops.calibatt.attention, (q, k, v, torch.tensor(1), torch.tensor(0), attend.number))
                self.assertTrue(torch.equal(
                    attend(q, k, v, layer=0, step=torch.tensor(1)),
                    package.attention(q, k, v, layer=0, step=1)))


if __name__ == "__main__":
    unittest.main()
