#!/usr/bin/env python3
"""A CUDA session beside stream captures of a host program: loading, prewarming, releasing and ending during one,
on the capturing thread and on others, in every mode of capture, on blocking and non-blocking streams.

usage: capture_test.py M.calibatt      (needs torch with CUDA)
Every capture has to live: it is replayed, and counts. What is loaded meanwhile has to be right.
"""

import contextlib
import ctypes
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "runtime" / "python"))

import torch

import calibatt
from calibatt import abi
from masks import inputs

PATH = None
DEVICE = "cuda:0"
MODES = ("global", "thread_local", "relaxed")


class CaptureTest(unittest.TestCase):
    @contextlib.contextmanager
    def captured(self, mode, stream=None):
        """A capture that adds 1 to a tensor before and after what is done inside, and is replayed twice."""
        counter = torch.zeros(8, device="cuda")
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=stream or torch.cuda.Stream(), capture_error_mode=mode):
            counter.add_(1)
            yield
            counter.add_(1)
        for _ in range(2):
            graph.replay()
        torch.cuda.synchronize()
        self.assertEqual(counter.tolist(), [4.0] * 8)

    def open(self):
        package = calibatt.load(PATH)
        self.addCleanup(package.close)
        return package

    def right(self, package, step=0):
        """The package's attention is the host device's."""
        q, k, v = inputs(package, 1, "cuda", 1)
        got = package.attention(q, k, v, layer=0, step=step).cpu().double()
        wanted = package.attention(q.cpu(), k.cpu(), v.cpu(), layer=0, step=step).double()
        self.assertLess(((got - wanted).norm() / wanted.norm()).item(), 6e-3)

    def each(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                yield mode

    def test_a_session_is_made_and_prewarmed_by_the_thread_that_captures(self):
        for mode in self.each():
            package = self.open()
            with self.captured(mode):
                package.prewarm([0], device=DEVICE)
            self.right(package)

    def test_what_was_prewarmed_under_the_capture_is_launched_in_it(self):
        for mode in self.each():
            package = self.open()
            q, k, v = inputs(package, 1, "cuda", 2)
            out = torch.full_like(q, torch.nan)
            with self.captured(mode):
                package.prewarm([0], device=DEVICE)
                package.attention(q, k, v, layer=0, step=0, out=out)
            self.assertTrue(torch.equal(out, package.attention(q, k, v, layer=0, step=0)))
            self.right(package)

    def test_a_call_that_is_not_resident_is_refused_and_the_capture_lives(self):
        for mode in self.each():
            package = self.open()
            q, k, v = inputs(package, 1, "cuda", 3)
            out = torch.empty_like(q)
            with self.captured(mode), self.assertRaises(calibatt.Error) as refused:
                package.attention(q, k, v, layer=0, step=0, out=out)
            self.assertEqual(refused.exception.status, "CALIBATT_STATUS_NOT_PREWARMED")
            self.right(package)

    def test_another_thread_makes_a_session_and_calls_on_its_own_stream(self):
        for mode in self.each():
            package = self.open()
            q, k, v = inputs(package, 1, "cuda", 4)
            out, stream, failed = torch.empty_like(q), torch.cuda.Stream(), []

            def work():
                try:
                    with torch.cuda.stream(stream):
                        package.attention(q, k, v, layer=0, step=0, out=out)
                except Exception as error:  # shown by the thread that tests
                    failed.append(error)

            with self.captured(mode):
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
            self.assertEqual(failed, [])
            stream.synchronize()
            self.assertTrue(torch.equal(out, package.attention(q, k, v, layer=0, step=0)))

    def test_a_session_ends_during_a_capture(self):
        for mode in self.each():
            package = calibatt.load(PATH)
            package.prewarm([0], device=DEVICE)
            torch.cuda.synchronize()
            with self.captured(mode):
                package.close()

    def test_a_byte_budget_releases_during_a_capture(self):
        for mode in self.each():
            package = self.open()
            steps = package.info["steps"]
            if steps < 2:
                self.skipTest("the package has one step")
            package.prewarm([0], device=DEVICE)
            one = next(iter(package.stats().values()))["device_bytes"]
            session = self.session(package, one + 1024)
            with self.captured(mode):
                for step in range(steps):
                    array = (ctypes.c_uint32 * 1)(step)
                    abi.check(abi.library().calibatt_session_prewarm(session, array, 1, 1))
            stats = abi.SessionStats()
            abi.check(abi.library().calibatt_session_stats(session, ctypes.byref(stats)))
            self.assertGreater(stats.evictions, 0)
            self.assertLessEqual(stats.device_bytes, one + 1024)

    def test_a_capture_on_a_blocking_stream_lives_too(self):
        create = ctypes.CDLL("libcuda.so.1").cuStreamCreate
        for mode in self.each():
            torch.cuda.synchronize()
            handle = ctypes.c_void_p()
            self.assertEqual(create(ctypes.byref(handle), 0), 0)  # CU_STREAM_DEFAULT: blocking
            package = self.open()
            q, k, v = inputs(package, 1, "cuda", 5)
            out = torch.full_like(q, torch.nan)
            with self.captured(mode, torch.cuda.ExternalStream(handle.value)):
                package.prewarm([0], device=DEVICE)
                package.attention(q, k, v, layer=0, step=0, out=out)
                other = self.open()
                other.prewarm([0], device=DEVICE)
                other.close()
            self.assertTrue(torch.equal(out, package.attention(q, k, v, layer=0, step=0)))

    def session(self, package, budget):
        """A session with a byte budget."""
        options = abi.SessionOptions(device=DEVICE.encode(), byte_budget=budget)
        session = ctypes.c_void_p()
        abi.check(abi.library().calibatt_session_create(
            package._open(), ctypes.byref(options), ctypes.byref(session)))
        self.addCleanup(abi.library().calibatt_session_destroy, session)
        return session


if __name__ == "__main__":
    PATH = sys.argv.pop(1)
    unittest.main(verbosity=2)
