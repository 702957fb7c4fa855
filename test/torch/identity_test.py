"""The id of a model: equal for equal models, however they are stored, wrapped and placed, and another for
another model."""

import copy
import os
import tempfile
import unittest

try:
    import torch
    import diffusers
except ImportError as error:
    raise unittest.SkipTest(f"torch and diffusers are not installed ({error})")
try:
    import accelerate
    import peft
except ImportError:
    accelerate = peft = None

from diffusers.configuration_utils import register_to_config
from diffusers.hooks import apply_group_offloading

import tiny_pipelines as tiny
from enable_test import GRID, STEPS, package_of, random_masks

import calibatt
from calibatt.diffusers.identity import Watch, model_id, same_model
from calibatt.diffusers.models import transformers_of

with_peft = unittest.skipUnless(peft, "peft and accelerate are not installed")


def id_of(transformer):
    return model_id(transformers_of(type("Pipe", (), {"transformer": transformer})()))


def add_lora(transformer, name="one", scale=0.2):
    transformer.add_adapter(peft.LoraConfig(r=4, target_modules=["to_q", "to_k"]), adapter_name=name)
    with torch.no_grad():
        for parameter_name, parameter in transformer.named_parameters():
            if f"lora_B.{name}." in parameter_name:
                parameter.copy_(scale * torch.randn_like(parameter))


class IdentityTest(unittest.TestCase):
    def setUp(self):
        self.enterContext(torch.no_grad())
        # Of bf16 values: what a model in bf16 and one in float32 have in common.
        self.model = tiny.wan_transformer()
        for parameter in self.model.parameters():
            parameter.copy_(parameter.bfloat16())
        self.id = id_of(self.model)

    def same(self, model, what=None):
        self.assertTrue(same_model(id_of(model), self.id), what)
        self.assertTrue(same_model(self.id, id_of(model)), what)

    def different(self, model, what=None):
        self.assertFalse(same_model(id_of(model), self.id), what)

    def test_it_names_the_class_and_two_hashes(self):
        self.assertRegex(self.id, r"^WanTransformer3DModel@[0-9a-f]{16}\.[0-9a-f]{16}$")
        self.assertEqual(id_of(copy.deepcopy(self.model)), self.id)

    def test_storage_in_other_types_is_the_same_model(self):
        for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn):
            with self.subTest(dtype=dtype):
                model = copy.deepcopy(self.model)
                for parameter in model.parameters():
                    parameter.data = parameter.data.to(dtype)
                self.same(model)
        model = copy.deepcopy(self.model).to(torch.bfloat16)
        model.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
        self.assertIn(torch.float8_e4m3fn, {parameter.dtype for parameter in model.parameters()})
        self.same(model)
        model.blocks[0].attn1.to_q.weight.data = (2 * model.blocks[0].attn1.to_q.weight.data.float()).to(
            torch.float8_e4m3fn)
        self.different(model)

    def test_fused_projections_and_compiled_blocks_are_the_same_model(self):
        model = copy.deepcopy(self.model)
        model.fuse_qkv_projections()
        self.assertTrue(hasattr(model.blocks[0].attn1, "to_qkv"))
        self.same(model)
        model.blocks[0].attn1.to_qkv.weight[-5:] += 1
        self.different(model)
        model = copy.deepcopy(self.model)
        for index, block in enumerate(model.blocks):
            model.blocks[index] = torch.compile(block, backend="eager")
        self.same(model)
        self.same(torch.compile(copy.deepcopy(self.model), backend="eager"))

    def test_a_new_entry_of_the_configuration_counts_where_it_is_not_the_default(self):
        class Later(diffusers.WanTransformer3DModel):
            @register_to_config
            def __init__(self, new_option="off", rope_max_seq_len=2048, **options):
                super().__init__(rope_max_seq_len=rope_max_seq_len, **options)

        Later.__name__ = "WanTransformer3DModel"
        for option in ("off", "on"):
            model = tiny.wan_transformer(cls=Later, new_option=option)
            model.load_state_dict(self.model.state_dict())
            (self.same if option == "off" else self.different)(model, option)
        other = tiny.wan_transformer(eps=1e-5)
        other.load_state_dict(self.model.state_dict())
        self.different(other)

    def test_one_weight_of_every_module_makes_another_model(self):
        for name, parameter in self.model.named_parameters():
            kept = parameter.clone()
            parameter.mul_(1.05).add_(1e-3)
            self.different(self.model, name)
            parameter.copy_(kept)
        self.same(self.model)
        self.different(tiny.wan_transformer())
        first, second = tiny.wan_transformer(), tiny.wan_transformer()
        pipes = [type("Pipe", (), {"transformer": a, "transformer_2": b})()
                 for a, b in ((first, second), (second, first))]
        self.assertFalse(same_model(*(model_id(transformers_of(pipe)) for pipe in pipes)))

    def test_group_offloading_to_memory_and_disk_is_the_same_model(self):
        with tempfile.TemporaryDirectory() as folder:
            for disk in (None, folder):
                model = copy.deepcopy(self.model)
                apply_group_offloading(
                    model, onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1,
                    offload_to_disk_path=disk)
                self.same(model, disk)
                changed = copy.deepcopy(self.model)
                changed.blocks[1].attn1.to_q.weight.mul_(1.1)
                apply_group_offloading(
                    changed, onload_device=torch.device("cpu"), offload_type="leaf_level",
                    offload_to_disk_path=disk and os.path.join(folder, "changed"))
                self.different(changed, disk)

    def test_a_tensor_that_is_split_over_processes_is_read_whole(self):
        import torch.distributed as dist
        from torch.distributed.tensor import DTensor, Shard, init_device_mesh, distribute_tensor

        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        self.addCleanup(dist.destroy_process_group)
        mesh = init_device_mesh("cpu", (1,))
        for module in (self.model.blocks[0].attn1.to_q, self.model.blocks[0].attn1.to_k):
            module.weight = torch.nn.Parameter(distribute_tensor(module.weight.data, mesh, [Shard(0)]))
        self.assertIsInstance(self.model.blocks[0].attn1.to_q.weight, DTensor)
        self.same(self.model)

    def test_what_cannot_be_read_is_named(self):
        self.model.blocks[1].attn1.to_q.to("meta")
        with self.assertRaisesRegex(calibatt.Error, r"transformer: blocks.1.attn1.to_q.weight is not in memory"):
            id_of(self.model)

        class Strange(torch.Tensor):
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                raise NotImplementedError(f"no {func.__name__}")

        model = tiny.wan_transformer()
        strange = model.blocks[0].attn1.to_q.weight.data.as_subclass(Strange)
        model.blocks[0].attn1.to_q._parameters["weight"] = strange
        with self.assertRaisesRegex(calibatt.Error, "transformer: blocks.0.attn1.to_q.weight, a Strange"):
            id_of(model)

    def test_storage_and_offloading_while_enabled_are_no_change(self):
        pipe, masks = tiny.wan(dtype=torch.bfloat16), random_masks()
        ways = {"fp8": lambda model, _: model.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)}
        if accelerate:  # diffusers' group offloading moves tensors by it
            ways |= {
                "group": lambda model, _: apply_group_offloading(
                    model, onload_device=torch.device("cpu"), offload_type="leaf_level"),
                "disk": lambda model, folder: apply_group_offloading(
                    model, onload_device=torch.device("cpu"), offload_type="block_level",
                    num_blocks_per_group=1, offload_to_disk_path=folder),
                "sequential": lambda model, _: accelerate.cpu_offload(
                    model, execution_device=torch.device("cpu")),
            }
        for name, change in ways.items():
            for first in ("enabled", "changed"):
                # Storing in fp8 makes it another model than bf16, if ever so little.
                if (name, first) == ("fp8", "enabled"):
                    continue
                with self.subTest(name, first=first), tempfile.TemporaryDirectory() as folder:
                    one = copy.deepcopy(pipe)
                    path = package_of(folder, one, masks)
                    with calibatt.diffusers.enable(one, path):
                        wanted = tiny.run(one, 5, GRID, STEPS)
                    if first == "changed":
                        change(one.transformer, os.path.join(folder, "weights"))
                    with calibatt.diffusers.enable(one, path) as enabled:
                        if first == "enabled":
                            change(one.transformer, os.path.join(folder, "weights"))
                        for _ in range(2):
                            out = tiny.run(one, 5, GRID, STEPS)
                        self.assertEqual(enabled.stats()["calls"], 4 * STEPS)
                    if name != "fp8":
                        self.assertTrue(torch.equal(out, wanted))

    @with_peft
    def test_sequential_and_disk_offloading_of_accelerate_is_the_same_model(self):
        model = copy.deepcopy(self.model)
        accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
        self.assertTrue(next(model.blocks.parameters()).is_meta)
        self.same(model)
        with tempfile.TemporaryDirectory() as folder:
            model = copy.deepcopy(self.model)
            accelerate.disk_offload(model, folder, execution_device=torch.device("cpu"))
            self.same(model)

    @with_peft
    def test_an_adapter_counts_with_its_weight_and_not_where_it_has_no_effect(self):
        add_lora(self.model)
        on = id_of(self.model)
        self.assertFalse(same_model(on, self.id))
        self.model.disable_adapters()
        self.same(self.model, "disabled")
        self.model.enable_adapters()
        self.assertEqual(id_of(self.model), on)
        self.model.set_adapters("one", 0.0)
        self.same(self.model, "weight 0")
        self.model.set_adapters("one", 0.5)
        self.assertFalse(same_model(id_of(self.model), on), "weight 0.5")
        self.model.set_adapters("one", 1.0)
        self.assertEqual(id_of(self.model), on)
        named = copy.deepcopy(self.model)
        self.assertEqual(id_of(named), on)
        self.model.fuse_lora()
        self.different(self.model, "fused")
        self.model.unfuse_lora()
        self.model.delete_adapters("one")
        self.same(self.model, "deleted")

    @with_peft
    def test_an_adapter_that_changes_after_enable_is_noticed_before_the_next_step(self):
        pipe, masks = tiny.wan(), random_masks()
        add_lora(pipe.transformer)
        changes = {
            "weight 0": lambda model: model.set_adapters("one", 0.0),
            "disabled": lambda model: model.disable_adapters(),
            "fused": lambda model: model.fuse_lora(),
            "another": lambda model: add_lora(model, "two"),
        }
        with tempfile.TemporaryDirectory() as folder:
            for name, change in changes.items():
                with self.subTest(name):
                    one = copy.deepcopy(pipe)
                    path = package_of(folder, one, masks)

                    def later(pipe, step, timestep, tensors):
                        if step == 1:
                            change(pipe.transformer)
                        return tensors

                    with calibatt.diffusers.enable(one, path) as enabled:
                        tiny.run(one, 5, GRID, STEPS)
                        with self.assertRaisesRegex(calibatt.Error, "the model is no longer what it was"):
                            tiny.run(one, 5, GRID, STEPS, callback_on_step_end=later)
                        self.assertEqual(enabled.stats()["calls"], 2 * STEPS + 4)
            path = package_of(folder, pipe, masks)
            with calibatt.diffusers.enable(pipe, path):
                with self.assertRaisesRegex(calibatt.Error, "called with a scale of 0.5 for its adapters"):
                    tiny.run(pipe, 5, GRID, STEPS, attention_kwargs={"scale": 0.5})
                tiny.run(pipe, 5, GRID, STEPS, attention_kwargs={"scale": 1.0})

    def test_moving_a_model_is_no_change_and_writing_to_it_is(self):
        transformers = transformers_of(type("Pipe", (), {"transformer": self.model})())
        watch = Watch(transformers)
        for parameter in self.model.parameters():
            parameter.data = parameter.data.clone()
        self.assertFalse(watch.changed(thorough=True))
        kept = self.model.proj_out.weight.clone()
        self.model.proj_out.weight.add_(1)
        self.assertTrue(watch.changed(thorough=False))
        self.assertTrue(watch.changed(thorough=True))
        self.model.proj_out.weight.copy_(kept)
        self.assertFalse(watch.changed(thorough=False))
        self.model.proj_out.weight.data.add_(1)  # leaves no mark
        self.assertTrue(watch.changed(thorough=True))


if __name__ == "__main__":
    unittest.main()
