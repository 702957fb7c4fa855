"""Run by torchrun in two processes on the CPU: Ulysses set while a pipeline is enabled, and heads of DTensors."""

import os

import torch
import torch.distributed as dist

import diffusers
import masked_reference as reference
import tiny_pipelines as tiny
from enable_test import package_of, random_masks

import calibatt
from calibatt.diffusers import enable
from calibatt.diffusers.models import transformers_of
from calibatt.diffusers.sharding import head_begin_of

GRID, STEPS = (4, 8, 16), 2
torch.set_grad_enabled(False)
dist.init_process_group("gloo")
rank = dist.get_rank()
# diffusers asks which accelerator there is.
torch._C._get_accelerator = lambda *_: torch.device("cpu")
torch.accelerator.device_count = lambda: 2

torch.manual_seed(11)
pipe = tiny.wan()
folder = os.path.join(os.environ["PARALLEL_RUN_FOLDER"], str(rank))
os.makedirs(folder)
import numpy
masks = numpy.ones((2, STEPS, tiny.HEADS, 4, 4), dtype=bool)
path = package_of(folder, pipe, masks, grid=GRID)
dense = tiny.run(pipe, 5, GRID, STEPS)
with enable(pipe, path, any_model=True):
    pipe.transformer.enable_parallelism(config=diffusers.ContextParallelConfig(ulysses_degree=2))
    try:
        tiny.run(pipe, 5, GRID, STEPS)
        raise SystemExit("the run was not refused")
    except calibatt.Error as error:
        assert "context parallelism splits the sequence" in str(error), error
late = reference.error(tiny.run(pipe, 5, GRID, STEPS), dense)
assert late < 1e-5, f"after disable(): {late}"

# Heads split by DTensors: rank 1 has the second half.
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

other = tiny.wan()
assert head_begin_of(transformers_of(other), tiny.HEADS) is None
mesh = init_device_mesh("cpu", (2,))
for block in other.transformer.blocks:
    weight = block.attn1.to_q.weight
    block.attn1.to_q.weight = torch.nn.Parameter(distribute_tensor(weight.data, mesh, [Shard(0)]))
assert head_begin_of(transformers_of(other), tiny.HEADS) == rank * tiny.HEADS // 2
block.attn1.to_q.weight = torch.nn.Parameter(distribute_tensor(weight.data, mesh, [Shard(1)]))
try:
    head_begin_of(transformers_of(other), tiny.HEADS)
    raise SystemExit("heads that cannot be told were not refused")
except calibatt.Error as error:
    assert "say head_begin" in str(error), error
print("all is right")
dist.destroy_process_group()
