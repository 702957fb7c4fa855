#!/usr/bin/env python3
"""The CUDA session as a host program uses it: CUDA graphs, streams, strides, batches, head ranges.

usage: session_test.py M.calibatt      (needs torch with CUDA)
Every result is compared with the host device on the same bf16 tensors.
"""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "runtime" / "python"))

import torch

import calibatt
from masks import inputs

PATH = None


class SessionTest(unittest.TestCase):
    def setUp(self):
        self.package = calibatt.load(PATH)
        self.addCleanup(self.package.close)
        self.addCleanup(torch.cuda.synchronize)  # runs before close: launches may be in flight
        self.layer, self.step = self.package.info["layers"] - 1, self.package.info["steps"] - 1

    def run_on(self, q, k, v, **options):
        return self.package.attention(q, k, v, layer=self.layer, step=self.step, **options)

    def assert_same_as_host(self, q, k, v, out, **options):
        wanted = self.run_on(q.cpu(), k.cpu(), v.cpu(), **options).double()
        got = out.cpu().double()
        error = ((got - wanted).square().sum() / wanted.square().sum()).sqrt().item()
        self.assertLess(error, 6e-3)

    def test_batches_and_strides_give_the_host_result(self):
        q, k, v = inputs(self.package, 2, "cuda", 1)
        self.assert_same_as_host(q, k, v, self.run_on(q, k, v))
        # Token-major, as projections give it: [batch, tokens, heads, dim] transposed.
        q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
        out = torch.full_like(q, torch.nan)
        self.run_on(q, k, v, out=out)
        self.assert_same_as_host(q, k, v, out)

    def test_a_head_range_gives_its_heads(self):
        if self.package.info["heads"] < 2:
            self.skipTest("the package has one head")
        q, k, v = inputs(self.package, 1, "cuda", 2, heads=self.package.info["heads"] - 1)
        self.assert_same_as_host(q, k, v, self.run_on(q, k, v, head_begin=1), head_begin=1)

    def test_a_prewarmed_call_is_captured_and_replayed(self):
        q, k, v = inputs(self.package, 1, "cuda", 3)
        out = torch.full_like(q, torch.nan)
        self.package.prewarm([self.step], device="cuda:0")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.run_on(q, k, v, out=out)
        q.copy_(inputs(self.package, 1, "cuda", 4)[0])  # the replay has to read what is there then
        out.fill_(torch.nan)
        for _ in range(3):
            graph.replay()
        torch.cuda.synchronize()
        self.assert_same_as_host(q, k, v, out)

    def test_a_call_that_would_load_under_capture_is_refused_and_the_capture_survives(self):
        q, k, v = inputs(self.package, 1, "cuda", 5)
        out = torch.zeros_like(q)
        graph = torch.cuda.CUDAGraph()
        refused = None
        # Made before the capture: creating a session retains the context.
        self.package.prewarm([], device="cuda:0")
        with torch.cuda.graph(graph):
            out.add_(1)
            try:
                self.run_on(q, k, v, out=torch.empty_like(q))
            except calibatt.Error as error:
                refused = error
        self.assertEqual(refused.status, "CALIBATT_STATUS_NOT_PREWARMED")
        self.assertIn("call calibatt_session_prewarm before capturing", str(refused))
        graph.replay()
        torch.cuda.synchronize()
        self.assertEqual(out.min().item(), 1)

    def test_streams_run_in_their_own_order(self):
        q, k, v = inputs(self.package, 1, "cuda", 6)
        self.package.prewarm([self.step], device="cuda:0")
        outs, streams = [], [torch.cuda.Stream() for _ in range(3)]
        torch.cuda.synchronize()
        for stream in streams:
            with torch.cuda.stream(stream):
                outs.append(self.run_on(q, k, v))
        torch.cuda.synchronize()
        for out in outs:
            self.assertTrue(torch.equal(out, outs[0]))
        self.assert_same_as_host(q, k, v, outs[0])

    def test_what_a_gpu_cannot_take_is_refused_by_name(self):
        q, k, v = inputs(self.package, 1, "cuda", 7)
        with self.assertRaisesRegex(calibatt.Error, "dtype f32; on a GPU tensors are bf16"):
            self.run_on(q.float(), k.float(), v.float())
        storage = torch.empty(q.numel() + 8, dtype=q.dtype, device=q.device)
        shifted = storage[1 : 1 + q.numel()].view(q.shape)
        with self.assertRaisesRegex(calibatt.Error, "q is at .* 16-byte aligned"):
            self.run_on(shifted, k, v)
        stats = self.package.stats()
        self.assertEqual(sum(entry["calls"] for entry in stats.values()), 0)


if __name__ == "__main__":
    PATH = sys.argv.pop(1)
    unittest.main(verbosity=2)
