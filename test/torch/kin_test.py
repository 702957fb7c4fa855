"""The kin of WanPipeline: video to video, image to video, VACE, modular; each made and calibrated as its own
attention is."""

import os
import tempfile
import unittest

try:
    import numpy
    import torch
    import diffusers
except ImportError as error:
    raise unittest.SkipTest(f"torch and diffusers are not installed ({error})")

from diffusers.hooks import LayerSkipConfig
from diffusers.modular_pipelines.wan.modular_blocks_wan import WanCoreDenoiseStep
from diffusers.modular_pipelines.wan.modular_blocks_wan22 import Wan22CoreDenoiseStep

import attention_reference
import masked_reference as reference
import tiny_pipelines as tiny
from calibrate_test import Recording
from enable_test import BLOCKS, GRID, package_of, random_masks

import calibatt
from calibatt.counts import Counts

STEPS = 4


def video_to_video(pipe):
    return tiny.quiet(diffusers.WanVideoToVideoPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=pipe.transformer, scheduler=pipe.scheduler))


def modular(pipe, guider=None):
    made = WanCoreDenoiseStep().init_pipeline()
    made.update_components(transformer=pipe.transformer, scheduler=pipe.scheduler,
                           guider=guider or diffusers.ClassifierFreeGuidance(guidance_scale=4.0))
    return made


def run_modular(pipe, plain, seed=5, steps=STEPS):
    call = tiny.arguments(plain, seed, GRID, steps)
    return pipe(output="latents", **{name: call[name] for name in (
        "prompt_embeds", "negative_prompt_embeds", "num_inference_steps", "latents", "height", "width",
        "num_frames")})


def autoencoder():
    return diffusers.AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        temperal_downsample=[False, True, True]).eval()


class KinTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())

    def setUp(self):
        self.enterContext(torch.no_grad())
        self.pipe = tiny.wan()
        self.counts = os.path.join(self.folder, f"{self.id()}.counts")

    def check(self, pipe, go, layers=2, schedule_of=None):
        """`go()` makes what it makes with a masked attention, and the steps that ran."""
        masks = random_masks(layers=layers, steps=STEPS)
        steps = reference.schedule(schedule_of or self.pipe, STEPS)
        path = package_of(self.folder, pipe, masks, steps=steps)
        plain = go()
        wanted, used = reference.masked(pipe, masks, go, [step["timestep"] for step in steps])
        with calibatt.diffusers.enable(pipe, path) as enabled:
            out = go()
            self.assertEqual(enabled.stats(), dict.fromkeys(enabled.stats(), 0) | {"calls": len(used)})
        self.assertLess(reference.error(out, wanted), 1e-5)
        self.assertGreater(reference.error(plain, wanted), 1e-3)
        self.assertTrue(torch.equal(go(), plain))
        return used

    def test_video_to_video_runs_the_steps_that_its_strength_leaves(self):
        pipe = video_to_video(self.pipe)
        call = tiny.arguments(self.pipe, 5, GRID, STEPS)
        del call["num_frames"]
        for strength, steps in ((0.5, [2, 3]), (1.0, [0, 1, 2, 3])):
            with self.subTest(strength=strength):
                used = self.check(pipe, lambda: pipe(strength=strength, **call).frames)
                self.assertEqual(used, [step for step in steps for _ in range(2)])

    def test_modular_pipelines_run_their_steps_with_the_branches_of_their_guider(self):
        guiders = {2: diffusers.ClassifierFreeGuidance(guidance_scale=4.0),
                   1: diffusers.ClassifierFreeGuidance(guidance_scale=1.0)}
        for branches, guider in guiders.items():
            with self.subTest(branches=branches):
                pipe = modular(self.pipe, guider)
                used = self.check(pipe, lambda: run_modular(pipe, self.pipe))
                self.assertEqual(used, [step for step in range(STEPS) for _ in range(branches)])

    def test_modular_pipelines_of_two_transformers_switch_where_their_boundary_is(self):
        plain = tiny.wan(two_transformers=True, boundary=0.8)
        guiders = {name: diffusers.ClassifierFreeGuidance(guidance_scale=4.0) for name in ("guider", "guider_2")}
        pipe = Wan22CoreDenoiseStep().init_pipeline()
        pipe.update_components(transformer=plain.transformer, transformer_2=plain.transformer_2,
                               scheduler=plain.scheduler, **guiders)
        pipe.update_components(boundary_ratio=0.8)
        modules = [step["module"] for step in reference.schedule(plain, STEPS)]
        self.assertEqual(modules, ["transformer"] * 2 + ["transformer_2"] * 2)
        self.check(pipe, lambda: run_modular(pipe, plain), schedule_of=plain)
        path = package_of(self.folder, pipe, random_masks(steps=STEPS), steps=reference.schedule(plain, STEPS))
        with calibatt.diffusers.enable(pipe, path):
            pipe.update_components(boundary_ratio=0.95)
            with self.assertRaisesRegex(calibatt.Error, "step 1 has module transformer, .* has transformer_2"):
                run_modular(pipe, plain)

    def test_layers_that_a_guider_skips_are_counted(self):
        guider = diffusers.SkipLayerGuidance(
            guidance_scale=4.0, skip_layer_guidance_scale=2.0, skip_layer_guidance_start=0.0,
            skip_layer_guidance_stop=1.0, skip_layer_config=LayerSkipConfig([1], fqn="blocks"))
        pipe = modular(self.pipe, guider)
        masks = random_masks(steps=STEPS)
        path = package_of(self.folder, pipe, masks, steps=reference.schedule(self.pipe, STEPS))
        timesteps = [step["timestep"] for step in reference.schedule(self.pipe, STEPS)]
        wanted, used = reference.masked(pipe, masks, lambda: run_modular(pipe, self.pipe), timesteps)
        with calibatt.diffusers.enable(pipe, path) as enabled:
            out = run_modular(pipe, self.pipe)
            stats = enabled.stats()
        self.assertLess(reference.error(out, wanted), 1e-5)
        self.assertEqual(stats["calls"], len(used))
        self.assertEqual((stats["skipped_layers"], stats["bypassed_layers"]), (len(used) // 3, 0))

    def test_two_prompts_in_a_batch_run_the_same_masks(self):
        call = tiny.arguments(self.pipe, 5, GRID, STEPS)
        call |= {name: torch.cat([call[name], torch.randn_like(call[name])])
                 for name in ("prompt_embeds", "negative_prompt_embeds", "latents")}
        self.check(self.pipe, lambda: self.pipe(**call).frames)

    def test_image_to_video_runs_its_steps_and_leaves_attention_to_images_alone(self):
        transformer = tiny.wan_transformer(in_channels=36, out_channels=16, image_dim=32, added_kv_proj_dim=128)
        pipe = tiny.quiet(diffusers.WanImageToVideoPipeline(
            tokenizer=None, text_encoder=None, vae=autoencoder(), transformer=transformer,
            scheduler=self.pipe.scheduler))
        call = tiny.arguments(self.pipe, 5, GRID, STEPS)
        # The processor takes the last 512 tokens for text, and what is before for images.
        call |= {name: torch.randn(1, 512, tiny.TEXT_DIM) for name in ("prompt_embeds", "negative_prompt_embeds")}
        call |= {"latents": torch.randn(1, 16, *call["latents"].shape[2:]),
                 "image": torch.rand(1, 3, call["height"], call["width"])}
        image = torch.randn(1, 7, 32)
        pipe.encode_image = lambda *_: image
        used = self.check(pipe, lambda: pipe(**call).frames)
        self.assertEqual(used, [step for step in range(STEPS) for _ in range(2)])

    def test_a_given_first_frame_has_timestep_0_and_runs_the_masks_of_the_others(self):
        transformer = tiny.wan_transformer(in_channels=16, out_channels=16)
        pipe = tiny.quiet(diffusers.WanImageToVideoPipeline(
            tokenizer=None, text_encoder=None, vae=autoencoder(), transformer=transformer,
            scheduler=self.pipe.scheduler, expand_timesteps=True))
        call = tiny.arguments(self.pipe, 5, GRID, STEPS)
        call |= {"latents": torch.randn(1, 16, *call["latents"].shape[2:]),
                 "image": torch.rand(1, 3, call["height"], call["width"])}
        self.check(pipe, lambda: pipe(**call).frames)

    def test_vace_runs_its_blocks_and_then_those_that_make_hints(self):
        transformer = tiny.wan_transformer(cls=diffusers.WanVACETransformer3DModel, vace_layers=[0, 1],
                                           vace_in_channels=6)
        self.pipe.register_modules(transformer=transformer)
        call = tiny.arguments(self.pipe, 5, GRID, STEPS)
        control = torch.randn(1, 6, *call["latents"].shape[2:])
        forward = transformer.forward
        transformer.forward = lambda *args, **kwargs: forward(*args, control_hidden_states=control, **kwargs)
        self.check(self.pipe, lambda: tiny.run(self.pipe, 5, GRID, STEPS), layers=4)

    def test_other_transformers_are_refused_naming_those_that_run(self):
        for kind in (diffusers.WanAnimateTransformer3DModel, diffusers.SkyReelsV2Transformer3DModel):
            self.pipe.register_modules(transformer=object.__new__(kind))
            torch.nn.Module.__init__(self.pipe.transformer)
            with self.assertRaises(calibatt.Error) as refused:
                calibatt.diffusers.enable(self.pipe, "none.calibatt")
            self.assertEqual(str(refused.exception), f"transformer is a {kind.__name__}, wanted "
                             "WanTransformer3DModel, WanVACETransformer3DModel")

    def calibrated(self, pipe, go):
        modules = [block.attn1 for block in self.pipe.transformer.blocks]
        inputs = attention_reference.AttentionInputs(modules)
        self.addCleanup(inputs.remove)
        recording = Recording()
        with calibatt.diffusers.calibrate(pipe, self.counts, energies=recording, progress=False) as calibration:
            go()
        self.assertEqual(len(recording.measured), STEPS * len(modules))
        for step in range(STEPS):
            for layer in range(len(modules)):
                # The conditional branch comes first.
                matrix = attention_reference.attention_matrix(*inputs.wan(layer, 2 * step))
                energies = recording.measured[step * len(modules) + layer][0][0]
                numpy.testing.assert_allclose(
                    energies, attention_reference.block_energies(matrix, BLOCKS), atol=2e-6)
        with Counts(self.counts) as counts:
            self.assertEqual(counts.info()["prompts"], 1)
        self.assertEqual(calibration.steps, reference.schedule(self.pipe, STEPS))

    def test_video_to_video_is_calibrated_in_its_conditional_branch(self):
        pipe = video_to_video(self.pipe)
        call = tiny.arguments(self.pipe, 5, GRID, STEPS)
        del call["num_frames"]
        self.calibrated(pipe, lambda: pipe(strength=1.0, **call))
        with calibatt.diffusers.calibrate(pipe, self.counts, progress=False):
            with self.assertRaisesRegex(calibatt.Error, "a run that begins at step 2 is not counted, wanted all 4"):
                pipe(strength=0.5, **call)

    def test_modular_pipelines_are_calibrated_in_their_conditional_branch(self):
        pipe = modular(self.pipe)
        self.calibrated(pipe, lambda: run_modular(pipe, self.pipe))

    def test_a_pipeline_that_does_not_tell_the_branch_is_refused_by_name_and_with_the_remedy(self):
        silent = type("SilentPipeline", (), {
            "__call__": lambda self: self.transformer(**self.call), "config": {}})()
        call = tiny.arguments(self.pipe, 5, GRID, STEPS)
        self.pipe.scheduler.set_timesteps(STEPS)
        silent.transformer, silent.scheduler = self.pipe.transformer, self.pipe.scheduler
        silent.call = {"hidden_states": call["latents"], "timestep": torch.tensor([999]),
                       "encoder_hidden_states": call["prompt_embeds"]}
        with calibatt.diffusers.calibrate(silent, self.counts, progress=False):
            with self.assertRaisesRegex(
                    calibatt.Error, "SilentPipeline does not tell the branch of guidance: wrap its calls of .*"
                    "cache_context"):
                silent()


if __name__ == "__main__":
    unittest.main()
