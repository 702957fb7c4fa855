"""What an enabled block's processor is to others: its settings, and the attention that is taken out."""

import os
import subprocess
import sys
import tempfile
import unittest

try:
    import torch
    import diffusers
except ImportError as error:
    raise unittest.SkipTest(f"torch and diffusers are not installed ({error})")

import torch.nn.functional as F
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.models.transformers import transformer_wan

import masked_reference as reference
import tiny_pipelines as tiny
from enable_test import GRID, STEPS, package_of, random_masks

import calibatt
from calibatt.diffusers import enable


class Own(transformer_wan.WanAttnProcessor):
    """A processor of somebody's own: `attention(q, k, v)` of [batch, tokens, heads, dim]."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        q, k, v = (linear(hidden_states) for linear in (attn.to_q, attn.to_k, attn.to_v))
        q, k, v = (x.unflatten(2, (attn.heads, -1)) for x in (attn.norm_q(q), attn.norm_k(k), v))
        return attn.to_out[0](self.attention(q, k, v).flatten(2, 3))


def by_pytorch(q, k, v, **options):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2)


def by_dispatch(q, k, v, **options):
    return dispatch_attention_fn(q, k, v, **options)


class ProcessorsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.enterClassContext(torch.no_grad())
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.pipe, cls.masks = tiny.wan(), random_masks()
        cls.path = package_of(cls.folder, cls.pipe, cls.masks)
        cls.timesteps = [step["timestep"] for step in reference.schedule(cls.pipe, STEPS)]
        cls.modules = [block.attn1 for block in cls.pipe.transformer.blocks]

    def setUp(self):
        for module in self.modules:
            module.processor = transformer_wan.WanAttnProcessor()

    def run_pipe(self):
        return tiny.run(self.pipe, 5, GRID, STEPS)

    def wanted(self):
        return reference.masked(self.pipe, self.masks, self.run_pipe, self.timesteps)[0]

    def own(self, attention):
        for module in self.modules:
            module.processor = Own(attention)

    def test_settings_made_while_enabled_are_those_of_the_blocks_own_processors(self):
        own = [module.processor for module in self.modules]
        own[0].before = 1
        with enable(self.pipe, self.path):
            for module in self.modules:
                self.assertIsInstance(module.processor, transformer_wan.WanAttnProcessor)
            self.pipe.transformer.set_attention_backend("_native_math")
            processor = self.modules[0].processor
            processor.mine, processor.layer = "set", 7
            self.assertEqual((processor.before, processor._attention_backend.value), (1, "_native_math"))
            del processor.before
            out = self.run_pipe()
        self.assertEqual([module.processor for module in self.modules], own)
        self.assertEqual([each._attention_backend.value for each in own], ["_native_math"] * 2)
        self.assertEqual(vars(own[0]), {
            "_attention_backend": own[0]._attention_backend, "mine": "set", "layer": 7})
        self.assertLess(reference.error(out, self.wanted()), 1e-5)
        self.pipe.transformer.reset_attention_backend()
        self.pipe.transformer.set_attention_backend("native")

    def test_whatever_backend_is_chosen_the_package_runs(self):
        def never(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
                  enable_gqa=False, _parallel_config=None):
            raise AssertionError("the backend was called")

        registry = diffusers.models.attention_dispatch._AttentionBackendRegistry
        flash = AttentionBackendName.FLASH
        kept = registry._backends.get(flash), registry._supported_arg_names.get(flash)
        self.addCleanup(lambda: (registry._backends.update({flash: kept[0]}),
                                 registry._supported_arg_names.update({flash: kept[1]})))
        registry._backends[flash] = never
        registry._supported_arg_names[flash] = {"query", "key", "value"}
        with enable(self.pipe, self.path):
            for module in self.modules:
                module.processor._attention_backend = flash
            out = self.run_pipe()
        for module in self.modules:
            self.assertIs(module.processor._attention_backend, flash)
            module.processor._attention_backend = None
        self.assertLess(reference.error(out, self.wanted()), 1e-5)

    def test_the_dispatch_of_diffusers_is_its_own_again_after_disable(self):
        before = transformer_wan.dispatch_attention_fn
        first = enable(self.pipe, self.path)
        other = tiny.wan()
        second = enable(other, self.path, any_model=True)
        first.disable()
        self.assertIsNot(transformer_wan.dispatch_attention_fn, before)
        second.disable()
        self.assertIs(transformer_wan.dispatch_attention_fn, before)

    def test_a_processors_own_scale_mask_and_the_like_are_refused_in_words(self):
        tokens = GRID[0] * GRID[1] * GRID[2]
        some = torch.ones(tokens, tokens, dtype=torch.bool).tril()
        for options, words in (
                ({"scale": 0.5}, "compiled for scale 0.125, call has 0.5"),
                ({"scale": 0.0}, "scale is 0, the package was compiled for 0.125"),
                ({"attn_mask": some}, "attention with a mask"),
                ({"is_causal": True}, "attention with a causal mask"),
                ({"dropout_p": 0.5}, "attention with dropout")):
            for attention in (by_pytorch, by_dispatch, dispatch_attention_fn):
                with self.subTest(options=list(options), by=attention.__name__):
                    self.own(lambda q, k, v: attention(q, k, v, **options))
                    with enable(self.pipe, self.path):
                        with self.assertRaisesRegex(calibatt.Error, words):
                            self.run_pipe()
        self.own(lambda q, k, v: by_pytorch(q, k[:, :, :1], v[:, :, :1], enable_gqa=True))
        with enable(self.pipe, self.path), self.assertRaisesRegex(calibatt.Error, "grouped queries"):
            self.run_pipe()

    def test_the_scale_of_the_package_said_by_a_processor_is_no_other_scale(self):
        self.own(lambda q, k, v: by_pytorch(q, k, v, scale=tiny.HEAD_DIM ** -0.5, enable_gqa=True))
        own = self.run_pipe()
        with enable(self.pipe, self.path) as enabled:
            self.assertGreater(reference.error(self.run_pipe(), own), 1e-4)
            (stats,) = enabled.package.stats().values()
        self.assertEqual(stats["calls"], 2 * 2 * STEPS)

    def test_other_attention_inside_of_a_processor_is_left_alone(self):
        seen = []

        def attention(q, k, v):
            for some in (k.shape[1], 128, 9):  # again, and to fewer keys
                out = by_pytorch(q, k[:, :some], v[:, :some])
                logits = torch.einsum("bqhd,bkhd->bhqk", q.double(), k[:, :some].double()) / q.shape[3] ** 0.5
                dense = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v[:, :some].double())
                seen.append((some, reference.error(out, dense)))
            return out

        self.own(lambda q, k, v: by_pytorch(q, k, v) + attention(q, k, v))
        with enable(self.pipe, self.path) as enabled:
            self.run_pipe()
            (stats,) = enabled.package.stats().values()
        self.assertEqual(stats["calls"], 2 * 2 * STEPS)
        self.assertEqual(len(seen), 3 * stats["calls"])
        self.assertLess(max(error for _, error in seen), 1e-5)

    def test_a_processor_that_takes_videos_one_by_one_is_served_each_and_none_half(self):
        masks = random_masks()
        path = package_of(self.enterContext(tempfile.TemporaryDirectory()), self.pipe, masks)
        for videos, refused in ((2, False), (1, True)):
            self.own(lambda q, k, v: torch.cat(
                [by_pytorch(q[i:i + 1], k[i:i + 1], v[i:i + 1]) for i in range(videos)]).expand(q.shape))
            given = tiny.arguments(self.pipe, 5, GRID, STEPS)
            with enable(self.pipe, path) as enabled:
                timestep = torch.tensor([self.timesteps[0]] * 2)
                call = (given["latents"].expand(2, -1, -1, -1, -1), timestep,
                        given["prompt_embeds"].expand(2, -1, -1))
                if refused:
                    with self.assertRaisesRegex(calibatt.Error, "called attention for 1 of 2 videos"):
                        self.pipe.transformer(*call)
                else:
                    self.pipe.transformer(*call)
                    (stats,) = enabled.package.stats().values()
                    self.assertEqual(stats["calls"], 2 * 2)

    def test_a_processor_without_such_attention_is_refused(self):
        self.own(lambda q, k, v: v)
        with enable(self.pipe, self.path):
            with self.assertRaisesRegex(calibatt.Error, "layer 0: Own did not call the attention of 273"):
                self.run_pipe()

    def test_function_modes_of_others_come_first_and_then_the_package(self):
        class Doubled(torch.overrides.TorchFunctionMode):
            seen = 0

            def __torch_function__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                if func is F.scaled_dot_product_attention and out.shape[2] == 273:
                    Doubled.seen += 1
                    return out * 2
                return out

        def go():
            with Doubled():
                return self.run_pipe()

        self.own(lambda q, k, v: by_pytorch(q, k, v))
        for own in (lambda q, k, v: by_pytorch(q, k, v), None):
            self.setUp()
            if own:
                self.own(own)
            with enable(self.pipe, self.path) as enabled:
                once = self.run_pipe()
                Doubled.seen = 0
                twice = go()
                (stats,) = enabled.package.stats().values()
            self.assertEqual(stats["calls"], 2 * 2 * 2 * STEPS)
            self.assertGreaterEqual(Doubled.seen, 2 * 2 * STEPS)
            self.assertGreater(reference.error(twice, once), 1e-3)

    def test_perturbed_attention_of_diffusers_answers_for_its_layer_and_is_counted(self):
        from diffusers.hooks.layer_skip import AttentionScoreSkipFunctionMode

        def perturbed(*args, **kwargs):
            with AttentionScoreSkipFunctionMode():
                return forward(*args, **kwargs)

        forward = self.modules[1].forward
        self.modules[1].forward = perturbed
        self.addCleanup(delattr, self.modules[1], "forward")
        seen = []
        hook = self.modules[1].to_out[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        self.addCleanup(hook.remove)
        value = self.modules[1].to_v.register_forward_hook(lambda _, args, out: seen.append(out))
        self.addCleanup(value.remove)
        with enable(self.pipe, self.path) as enabled:
            self.run_pipe()
            (stats,) = enabled.package.stats().values()
            self.assertEqual(stats["calls"], 2 * STEPS)
            self.assertEqual(enabled.stats()["skipped_layers"], 2 * STEPS)
        for v, out in zip(seen[::2], seen[1::2]):
            self.assertTrue(torch.equal(v, out))

    def test_some_of_the_heads_are_refused_unless_it_is_said_which(self):
        heads = tiny.HEADS
        self.own(lambda q, k, v: by_pytorch(q[:, :, -1:], k[:, :, -1:], v[:, :, -1:]).expand_as(q))
        with enable(self.pipe, self.path):
            with self.assertRaisesRegex(calibatt.Error, f"q has 1 heads, the package has {heads}: .*head_begin"):
                self.run_pipe()
        with enable(self.pipe, self.path, head_begin=heads - 1) as enabled:
            self.run_pipe()
            self.assertEqual(list(enabled.package.stats()), [("host", heads - 1, 1)])

    @unittest.skipUnless(hasattr(diffusers.WanTransformer3DModel, "enable_parallelism"),
                         "this diffusers has no context parallelism")
    def test_context_parallelism_set_while_enabled_is_refused_and_stays_set(self):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "parallel_run.py")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node", "2",
             "--master_port", "0", "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", script],
            capture_output=True, text=True, env=dict(os.environ, PARALLEL_RUN_FOLDER=self.folder))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count("all is right"), 2, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
