"""Which masks a call of a transformer runs: those of the step whose timestep it carries, whoever calls."""

import copy
import os
import tempfile
import threading
import unittest

try:
    import numpy
    import torch
    import diffusers
except ImportError as error:
    raise unittest.SkipTest(f"torch and diffusers are not installed ({error})")

import masked_reference as reference
import tiny_pipelines as tiny
from enable_test import GRID, compiled, package_of, random_masks

import calibatt
from calibatt.diffusers.identity import model_id
from calibatt.diffusers.models import transformers_of
from calibatt.diffusers.schedule import Schedule, Told, timestep_of

enable = calibatt.diffusers.enable


def calls_of(pipe, scheduler, steps, first=0, told=False, begin=None, change=lambda t: t):
    """The latents that the caller's own loop makes with the pipeline's transformer."""
    scheduler.set_timesteps(steps)
    if begin is not None:
        scheduler.set_begin_index(begin)
    call = tiny.arguments(pipe, 5, GRID, steps)
    latents, transformer = call["latents"], pipe.transformer
    for index, t in list(enumerate(scheduler.timesteps))[first:]:
        more = {"step_index": index, "sigma": float(scheduler.sigmas[index]),
                "num_inference_steps": steps} if told else {}
        with torch.no_grad(), transformer.cache_context("cond", **more):
            out = transformer(latents, change(t.expand(1)), call["prompt_embeds"], return_dict=False)[0]
        latents = scheduler.step(out, t, latents, return_dict=False)[0]
    return latents


class StepTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())

    def setUp(self):
        self.enterContext(torch.no_grad())
        self.pipe, self.masks = tiny.wan(), random_masks(steps=4)
        self.path = package_of(self.folder, self.pipe, self.masks)
        self.timesteps = [step["timestep"] for step in reference.schedule(self.pipe, 4)]

    def check(self, go, pipe=None, steps=None, path=None, masks=None, **options):
        """`go()` makes what it makes with a masked attention; `steps` are those that run."""
        pipe, masks = pipe or self.pipe, self.masks if masks is None else masks
        wanted, used = reference.masked(pipe, masks, go, self.timesteps)
        with enable(pipe, path or self.path, **options) as enabled:
            out = go()
            self.assertEqual(enabled.stats()["calls"], len(used))
            self.assertEqual(enabled.stats()["dense_calls"] + enabled.stats()["skipped_layers"], 0)
        self.assertLess(reference.error(out, wanted), 1e-5)
        if steps is not None:
            self.assertEqual(sorted(set(used)), steps)
        return out

    def fresh(self):
        return tiny.wan().scheduler

    def test_a_copy_of_the_pipeline_with_a_scheduler_of_its_own_runs_its_steps(self):
        def request():
            one = copy.copy(self.pipe)
            one.scheduler = self.fresh()
            return tiny.run(one, 5, GRID, 4)

        self.check(request, steps=[0, 1, 2, 3])

    def test_loops_of_the_callers_own_run_their_steps(self):
        for told in (False, True):
            with self.subTest(told=told):
                self.check(lambda: calls_of(self.pipe, self.fresh(), 4, told=told), steps=[0, 1, 2, 3])
        self.check(lambda: calls_of(self.pipe, self.pipe.scheduler, 4, first=2), steps=[2, 3])
        self.check(lambda: calls_of(self.pipe, self.fresh(), 4, change=lambda t: t.float()))
        self.check(lambda: calls_of(self.pipe, self.fresh(), 4, change=lambda t: t.bfloat16()))

    def test_a_transformer_called_without_any_context_runs_its_step(self):
        call = tiny.arguments(self.pipe, 5, GRID, 4)
        for timestep in self.timesteps:
            self.check(lambda: self.pipe.transformer(
                call["latents"], torch.tensor([timestep]), call["prompt_embeds"], return_dict=False)[0])

    def test_threads_that_share_a_transformer_each_run_their_own_step(self):
        call, made = tiny.arguments(self.pipe, 5, GRID, 4), {}

        def run(step):
            with torch.no_grad():
                made[step] = self.pipe.transformer(
                    call["latents"], torch.tensor([self.timesteps[step]]), call["prompt_embeds"],
                    return_dict=False)[0]

        for step in range(4):
            run(step)
        dense = dict(made)
        wanted, _ = reference.masked(
            self.pipe, self.masks, lambda: [run(step) for step in range(4)] and dict(made), self.timesteps)
        for compiled_too in (False, True):
            if compiled_too:
                self.pipe.transformer.compile(backend="aot_eager", fullgraph=True)
            with self.subTest(compiled=compiled_too), enable(self.pipe, self.path):
                run(0)
                threads = [threading.Thread(target=run, args=(step,)) for step in range(4) for _ in range(3)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            for step in range(4):
                self.assertLess(reference.error(made[step], wanted[step]), 1e-5)
                self.assertGreater(reference.error(dense[step], wanted[step]), 1e-3)

    def test_compiled_transformers_run_their_steps_however_they_are_compiled(self):
        def wrapped(pipe):
            pipe.transformer = torch.compile(pipe.transformer, backend="aot_eager", fullgraph=True)

        ways = {
            "torch.compile": wrapped,
            "compile()": lambda pipe: pipe.transformer.compile(backend="aot_eager", fullgraph=True),
            "blocks": lambda pipe: pipe.transformer.compile_repeated_blocks(
                backend="aot_eager", fullgraph=True),
        }
        for name, compile_it in ways.items():
            for first in ("compiled", "enabled"):
                torch._dynamo.reset()
                with self.subTest(name, first=first):
                    pipe, masks = tiny.wan(), random_masks(steps=4)
                    path = package_of(self.folder, pipe, masks)
                    model = pipe.transformer
                    wanted, _ = reference.masked(
                        pipe, masks, lambda: calls_of(pipe, self.fresh(), 4), self.timesteps)
                    dense = calls_of(pipe, self.fresh(), 4)
                    if first == "compiled":
                        compile_it(pipe)
                        calls_of(pipe, self.fresh(), 4)
                    for again in range(2):
                        with enable(pipe, path) as enabled:
                            if first == "enabled" and not again:
                                compile_it(pipe)
                            out = calls_of(pipe, self.fresh(), 4)
                            self.assertEqual(enabled.stats()["calls"], 4)
                            with self.assertRaisesRegex(calibatt.Error, "timestep 501 is none"):
                                calls_of(pipe, self.fresh(), 4, change=lambda t: t * 0 + 501)
                        self.assertLess(reference.error(out, wanted), 1e-5)
                    out = calls_of(pipe, self.fresh(), 4)
                    self.assertLess(reference.error(out, dense), 1e-6)
                    self.assertIs(getattr(pipe.transformer, "_orig_mod", pipe.transformer), model)

    def test_another_schedule_with_as_many_steps_is_refused_before_the_first_launch(self):
        shifted = tiny.wan().scheduler.__class__.from_config(self.pipe.scheduler.config, flow_shift=7.0)
        euler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
        for scheduler in (shifted, euler):
            with enable(self.pipe, self.path) as enabled:
                one = copy.copy(self.pipe)
                one.scheduler = scheduler
                with self.assertRaisesRegex(
                        calibatt.Error, "step [01] has timestep .*, the schedule of the pipeline's "
                        + type(scheduler).__name__):
                    tiny.run(one, 5, GRID, 4)
                with self.assertRaisesRegex(calibatt.Error, "has 4 steps, the pipeline runs 8"):
                    tiny.run(self.pipe, 5, GRID, 8)
                self.assertEqual(enabled.package.stats(), {})
                with self.assertRaisesRegex(calibatt.Error, "timestep .* is none of its 4 steps"):
                    calls_of(self.pipe, scheduler, 4)
                tiny.run(self.pipe, 5, GRID, 4)

    def test_with_allow_dense_calls_of_another_schedule_or_grid_run_dense_and_are_counted(self):
        shifted = self.fresh().__class__.from_config(self.pipe.scheduler.config, flow_shift=7.0)
        wanted = {grid: calls_of(self.pipe, shifted, 4) for grid in (GRID,)}
        with enable(self.pipe, self.path, allow_dense=True) as enabled:
            out = calls_of(self.pipe, shifted, 4)
            self.assertEqual(enabled.stats()["dense_calls"], 3)  # both begin at 999
            plain = tiny.run(self.pipe, 5, (2, 7, 13), 4)
            self.assertEqual(enabled.stats()["dense_calls"], 3 + 8)
            self.assertEqual(enabled.stats()["bypassed_layers"], 0)
        self.assertEqual(out.shape, wanted[GRID].shape)
        self.assertLess(reference.error(plain, tiny.run(self.pipe, 5, (2, 7, 13), 4)), 1e-6)

    def test_the_boundary_of_wan_2_2_decides_as_the_pipeline_does_at_875_and_another_is_refused(self):
        pipe = tiny.wan(two_transformers=True, boundary=0.875)
        steps = reference.schedule(pipe, 40)
        at = [step["timestep"] for step in steps].index(875)
        self.assertEqual([step["module"] for step in steps].count("transformer"), at + 1)
        masks = random_masks(steps=40)
        path = package_of(self.folder, pipe, masks)
        with enable(pipe, path) as enabled:
            seen = []
            attention = enabled.package.attention
            enabled.package.attention = lambda *a, **k: (seen.append(k["step"]), attention(*a, **k))[1]
            tiny.run(pipe, 5, GRID, 40, guidance_scale=1.0)
            self.assertEqual(seen, [step for step in range(40) for _ in range(2)])
            pipe.register_to_config(boundary_ratio=0.9)
            with self.assertRaisesRegex(calibatt.Error, "has module transformer, the schedule .* transformer_2"):
                tiny.run(pipe, 5, GRID, 40)
            call = tiny.arguments(pipe, 5, GRID, 40)
            with self.assertRaisesRegex(calibatt.Error, rf"step {at} \(timestep 875\) is transformer's, but"):
                pipe.transformer_2(call["latents"], torch.tensor([875]), call["prompt_embeds"])

    def test_a_timestep_a_token_is_that_of_the_tokens_that_are_not_given(self):
        frames = GRID[0]
        per_token = torch.full((2, 273), 857)
        self.assertEqual(timestep_of(per_token), 857)
        per_token[:, : 273 // frames] = 0
        self.assertEqual(timestep_of(per_token), 857)
        self.assertEqual(timestep_of(per_token.bfloat16()), 856)
        per_token[1, -1] = 600
        with self.assertRaisesRegex(calibatt.Error, "several timesteps up to 857"):
            timestep_of(per_token)
        with self.assertRaisesRegex(calibatt.Error, r"different timesteps \(857, 600\)"):
            timestep_of(torch.tensor([857, 600]))
        pipe = tiny.wan(expand_timesteps=True)
        path = package_of(self.folder, pipe, self.masks)
        self.check(lambda: tiny.run(pipe, 5, GRID, 4), pipe, path=path, steps=[0, 1, 2, 3])

    def test_steps_that_look_alike_need_what_the_caller_tells_beside_the_timestep(self):
        steps = [{"timestep": t, "sigma": s, "module": "transformer"}
                 for t, s in ((999, 0.9994), (999, 0.9986), (400, 0.4), (400, 0.4))]
        schedule = Schedule(steps, "P")
        find = lambda t, **told: schedule.find("transformer", t, torch.int64, Told(**told))
        self.assertEqual(find(999, sigma=0.9986), 1)
        self.assertEqual(find(400, index=3), 3)
        self.assertEqual(find(400, index=3, sigma=0.4, steps=4), 3)
        for told in ({}, {"index": 0}, {"sigma": 0.4}):
            with self.assertRaisesRegex(calibatt.Error, "steps 2, 3 all look like timestep 400 of int64"):
                find(400, **told)
        with self.assertRaisesRegex(calibatt.Error, "sigma 0.9994, the call 0.9"):
            find(999, sigma=0.9)
        with self.assertRaisesRegex(calibatt.Error, "has 4 steps, the caller runs 2"):
            find(400, index=2, steps=2)
        close = Schedule([{"timestep": t, "sigma": 0.0, "module": "transformer"} for t in (999, 997)], "P")
        self.assertEqual(close.find("transformer", 997.0, torch.float32, Told()), 1)
        with self.assertRaisesRegex(calibatt.Error, "steps 0, 1 all look like timestep 1000 of bfloat16"):
            Schedule([{"timestep": t, "sigma": 0.0, "module": "transformer"} for t in (999, 998.5)], "P").find(
                "transformer", 1000.0, torch.bfloat16, Told())

    def test_steps_that_a_scheduler_rounds_to_one_timestep_are_told_apart_where_a_pipeline_runs(self):
        scheduler = self.fresh().__class__.from_config(
            self.pipe.scheduler.config, num_train_timesteps=6, flow_shift=1.0)
        self.pipe.scheduler = scheduler
        steps = reference.schedule(self.pipe, 8)
        self.assertLess(len({step["timestep"] for step in steps}), 8)
        masks = random_masks(steps=8)
        path = package_of(self.folder, self.pipe, masks)

        class Silent(diffusers.WanPipeline):
            """Tells nothing beside the timestep: it is its scheduler that knows the step."""

            def __call__(self):
                return calls_of(self, self.scheduler, 8, begin=0)

        silent = Silent(tokenizer=None, text_encoder=None, vae=None, transformer=self.pipe.transformer,
                        scheduler=scheduler)
        for pipe, go, calls in ((self.pipe, lambda: tiny.run(self.pipe, 5, GRID, 8), 2), (silent, silent, 1)):
            count = iter(step for step in range(8) for _ in range(calls))
            with reference.Masked([pipe.transformer], masks, lambda _: next(count)):
                wanted = go()
            with enable(pipe, path):
                self.assertLess(reference.error(go(), wanted), 1e-5)
                with self.assertRaisesRegex(calibatt.Error, "all look like timestep"):
                    calls_of(pipe, scheduler, 8)

    def test_schedulers_of_every_order_run_their_steps(self):
        schedulers = {
            "UniPC": self.fresh(),
            "Euler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            "Heun": diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0),
            "DPM": diffusers.DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        }
        for name, scheduler in schedulers.items():
            with self.subTest(name):
                pipe = tiny.wan()
                pipe.scheduler = scheduler
                steps = reference.schedule(pipe, 3)
                masks = random_masks(steps=len(steps))
                path = package_of(self.folder, pipe, masks, steps=steps)
                # Heun's timesteps come twice: here the number of calls tells the step.
                count = iter(step for step in range(len(steps)) for _ in range(2))
                with reference.Masked([pipe.transformer], masks, lambda _: next(count)):
                    wanted = tiny.run(pipe, 5, GRID, 3)
                with enable(pipe, path):
                    self.assertLess(reference.error(tiny.run(pipe, 5, GRID, 3), wanted), 1e-5)
                    if name == "Heun":
                        with self.assertRaisesRegex(calibatt.Error, "steps 1, 2 all look like timestep"):
                            calls_of(pipe, diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0), 3)

    def test_packages_without_timesteps_need_somebody_who_tells_the_step(self):
        path = compiled(self.folder, model_id(transformers_of(self.pipe)), self.masks)
        with self.assertRaisesRegex(calibatt.Error, "has timestep 0 at every step, so that no call can be told"):
            enable(self.pipe, path)
        with self.assertRaisesRegex(calibatt.Error, "step is 'order', wanted"):
            enable(self.pipe, path, step="order")
        self.check(lambda: tiny.run(self.pipe, 5, GRID, 4), path=path, step="index")
        self.check(lambda: calls_of(self.pipe, self.fresh(), 4, told=True), path=path, step="index")
        self.check(lambda: calls_of(self.pipe, self.fresh(), 4), path=path,
                   step=lambda module, timestep: self.timesteps.index(timestep))
        with enable(self.pipe, path, step="index"):
            with self.assertRaisesRegex(calibatt.Error, "has 4 steps, the pipeline runs 3"):
                tiny.run(self.pipe, 5, GRID, 3)
            with self.assertRaisesRegex(calibatt.Error, "nothing tells its index"):
                calls_of(self.pipe, self.fresh(), 4)
        with calibatt.load(path) as package:
            package.steps = []  # as of a package from before 2.1
            with self.assertRaisesRegex(calibatt.Error, "has no timesteps, so that no call"):
                enable(self.pipe, package)


if __name__ == "__main__":
    unittest.main()
