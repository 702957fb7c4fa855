"""A pipeline that is enabled and compiled: one graph for all layers, steps, packages and enables."""

import tempfile
import unittest

try:
    import numpy
    import torch
    import diffusers
except ImportError as error:
    raise unittest.SkipTest(f"torch and diffusers are not installed ({error})")

import torch._dynamo as dynamo
import torch.nn.functional as F

import masked_reference as reference
import processors_test
import tiny_pipelines as tiny
from enable_test import GRID, package_of, random_masks

import calibatt
from calibatt.diffusers import enable

STEPS = 2


def whole(pipe, **options):
    pipe.transformer = torch.compile(pipe.transformer, **options)


def repeated(pipe, **options):
    pipe.transformer.compile_repeated_blocks(**options)


def graphs():
    return dynamo.utils.counters["stats"]["unique_graphs"]


class CompileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())

    def setUp(self):
        self.enterContext(torch.no_grad())
        self.enterContext(dynamo.config.patch(error_on_recompile=False))
        dynamo.reset()
        dynamo.utils.counters.clear()
        self.addCleanup(dynamo.reset)

    def pipeline(self, layers, steps=STEPS):
        pipe, masks = tiny.wan(layers=layers), [random_masks(layers, steps) for _ in range(2)]
        # Packages that are open both, each of its own file.
        packages = []
        for each in masks:
            folder = self.enterContext(tempfile.TemporaryDirectory())
            packages.append(self.enterContext(calibatt.load(package_of(folder, pipe, each))))
        timesteps = [step["timestep"] for step in reference.schedule(pipe, steps)]
        wanted = [reference.masked(pipe, each, lambda: tiny.run(pipe, 5, GRID, steps), timesteps)[0]
                  for each in masks]
        return pipe, packages, wanted

    def serves(self, way, layers, **options):
        """Two packages and two enables of each, compiled once."""
        pipe, packages, wanted = self.pipeline(layers)
        self.assertGreater(reference.error(*wanted), 1e-3)
        options = dict(backend="aot_eager", fullgraph=True) | options
        way(pipe, **options)
        seen = []
        for index in (0, 1, 0, 1):
            with enable(pipe, packages[index]):
                out = tiny.run(pipe, 5, GRID, STEPS)
            self.assertLess(reference.error(out, wanted[index]), 1e-5, f"round {len(seen)}")
            seen.append(graphs())
        return seen

    def test_a_transformer_is_one_graph_for_all_steps_packages_and_enables(self):
        seen = self.serves(whole, 2)
        self.assertEqual(len(set(seen)), 1)
        # Beside it one each for what tells begin and end of a call, without attention in them.
        self.assertEqual(seen[0], 3)

    def test_repeated_blocks_are_one_graph_for_all_layers_too(self):
        self.assertEqual(self.serves(repeated, 11), [1] * 4)

    def refused_or(self, right, pipe, words):
        """Traced whole it is refused; else torch.compile may leave it to eager code, which is right."""
        pipe.transformer.compile_repeated_blocks(backend="eager", fullgraph=True)
        with self.assertRaisesRegex(Exception, words):
            tiny.run(pipe, 5, GRID, STEPS)
        dynamo.reset()
        pipe.transformer.compile_repeated_blocks(backend="eager")
        try:
            out = tiny.run(pipe, 5, GRID, STEPS)
        except calibatt.Error as refused:
            self.assertRegex(str(refused), words)
        else:
            self.assertLess(reference.error(out, right), 1e-5)

    def test_a_function_mode_of_others_around_compiled_blocks_is_refused_or_asked(self):
        class Doubled(torch.overrides.TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                # The cross-attention has other keys; diffusers gives them by name.
                ours = func is F.scaled_dot_product_attention and (
                    kwargs["key"] if "key" in kwargs else args[1]).shape[2] == 273
                return out * 2 if ours else out

        pipe, packages, wanted = self.pipeline(2)
        for block in pipe.transformer.blocks:
            block.attn1.processor = processors_test.Own(processors_test.by_dispatch)
        with enable(pipe, packages[0]):
            once = tiny.run(pipe, 5, GRID, STEPS)
            # One that only says where new tensors go is no such.
            pipe.transformer.compile_repeated_blocks(backend="eager", fullgraph=True)
            if not torch.__version__.startswith("2.11."):  # whose compiler has no unflatten() in a mode
                with torch.device("cpu"):
                    self.assertLess(reference.error(tiny.run(pipe, 5, GRID, STEPS), once), 1e-5)
            dynamo.reset()
            for block in pipe.transformer.blocks:
                block._compiled_call_impl = None
            with Doubled():
                twice = tiny.run(pipe, 5, GRID, STEPS)
                self.assertGreater(reference.error(twice, once), 1e-3)
                self.refused_or(twice, pipe, "is active around a compiled block")

    def test_compiled_processors_of_others_run_by_the_dispatch_and_are_refused_or_right_without(self):
        for attention in (processors_test.by_dispatch, processors_test.by_pytorch):
            dynamo.reset()
            pipe, packages, _ = self.pipeline(2)
            for block in pipe.transformer.blocks:
                block.attn1.processor = processors_test.Own(attention)
            with self.subTest(attention.__name__), enable(pipe, packages[0]):
                eager = tiny.run(pipe, 5, GRID, STEPS)
                if attention is processors_test.by_dispatch:
                    pipe.transformer.compile_repeated_blocks(backend="eager", fullgraph=True)
                    self.assertLess(reference.error(tiny.run(pipe, 5, GRID, STEPS), eager), 1e-5)
                else:
                    self.refused_or(eager, pipe, "did not call the attention of")

    def test_inductor_takes_the_same_graph(self):
        self.assertEqual(self.serves(repeated, 2, backend="inductor"), [1] * 4)

    def test_what_is_compiled_runs_without_a_package_too(self):
        pipe, packages, wanted = self.pipeline(2)
        plain = tiny.run(pipe, 5, GRID, STEPS)
        repeated(pipe, backend="aot_eager", fullgraph=True)
        seen = []
        for _ in range(2):
            self.assertLess(reference.error(tiny.run(pipe, 5, GRID, STEPS), plain), 1e-5)
            with enable(pipe, packages[0]):
                self.assertLess(reference.error(tiny.run(pipe, 5, GRID, STEPS), wanted[0]), 1e-5)
            seen.append(graphs())
        self.assertEqual(seen, [2, 2])


if __name__ == "__main__":
    unittest.main()
