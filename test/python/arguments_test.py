"""What Python would cut, wrap or take for something else is refused in words, or works."""

import ctypes
import json
import os
import subprocess
import tempfile
import unittest

try:
    import numpy
except ImportError as error:
    raise unittest.SkipTest(f"NumPy is not installed ({error})")
try:
    import torch
    import torch.testing._internal.two_tensor
except ImportError:
    torch = None
try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

import calibatt
import calibatt.abi
from calibatt.counts import Counts


class ArgumentsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.path = os.path.join(cls.folder, "sample.calibatt")
        made = subprocess.run(
            [os.environ["CALIBATT_MAKE_SAMPLE"], cls.path], check=True, capture_output=True)
        cls.sample = json.loads(made.stdout)
        cls.package = cls.enterClassContext(calibatt.load(cls.path))

    def tensors(self, heads=None, tokens=None):
        shape = (1, heads or self.sample["heads"], tokens or self.sample["tokens"], self.sample["head_dim"])
        return [numpy.random.default_rng().normal(size=shape).astype(numpy.float32) for _ in range(3)]

    def refused(self, words, call):
        with self.subTest(words), self.assertRaisesRegex(calibatt.Error, words):
            call()

    def test_what_is_no_integer_is_no_layer_or_step(self):
        q, k, v = self.tensors()
        wrong = [0.9, -0.5, 1.0, "0", b"0", None, True, False, [0], numpy.float64(1), numpy.bool_(True),
                 numpy.array([1]), float("nan")]
        if torch is not None:
            wrong += [torch.tensor(0.9), torch.tensor(True), torch.tensor([1])]
        for value in wrong:
            for name in ("layer", "step"):
                index = {"layer": 0, "step": 0, name: value}
                self.refused(f"{name} is .*, wanted an integer",
                             lambda: self.package.attention(q, k, v, **index))
            self.refused("head is .*, wanted an integer", lambda: self.package.site_mask(0, value, 0))
        self.refused("step is .*, wanted an integer", lambda: self.package.prewarm([0.5], device="host"))

    def test_integers_of_numpy_and_torch_are_taken(self):
        q, k, v = self.tensors()
        wanted = self.package.attention(q, k, v, layer=1, step=0)
        ones = [numpy.int64(1), numpy.uint8(1), numpy.array(1)]
        if torch is not None:
            ones += [torch.tensor(1), torch.tensor(1, dtype=torch.uint8)]
        for one in ones:
            numpy.testing.assert_array_equal(self.package.attention(q, k, v, layer=one, step=0), wanted)

    def test_numbers_that_the_c_abi_has_no_bits_for_are_refused(self):
        q, k, v = self.tensors()
        for value in (2**32, -1, 2**64, -2**32):
            self.refused(f"batch is {value}, wanted 0 to 2.32 - 1",
                         lambda: self.package.prewarm([0], device="host", batch=value))
            self.refused(f"head_begin is {value}, wanted 0 to 2.32",
                         lambda: self.package.attention(q, k, v, layer=0, step=0, head_begin=value))
            self.refused(f"head_count is {value}, wanted",
                         lambda: self.package.prewarm([0], device="host", head_count=value))
        self.refused("byte_budget is -1, wanted 0 to 2.64 - 1", lambda: calibatt.load(self.path, byte_budget=-1))
        self.refused("byte_budget is 0.5, wanted an integer", lambda: calibatt.load(self.path, byte_budget=0.5))

    def test_every_integer_of_every_struct_is_checked(self):
        for kind in (calibatt.abi.Call, calibatt.abi.SessionOptions, calibatt.abi.Energy,
                     calibatt.abi.SessionStats, calibatt.abi.PackageInfo):
            for name, field in kind._fields_:
                if name == "struct_size" or field not in (ctypes.c_uint32, ctypes.c_uint64, ctypes.c_size_t):
                    continue
                largest = 2 ** (8 * ctypes.sizeof(field)) - 1
                self.assertEqual(getattr(kind(**{name: largest}), name), largest)
                for value in (largest + 1, -1):
                    self.refused(f"{name} is {value}, wanted", lambda: kind(**{name: value}))
                self.refused(f"{name} is 0.5, wanted an integer", lambda: kind(**{name: 0.5}))

    def test_a_zero_byte_does_not_end_a_name(self):
        self.refused("path .* has a zero byte", lambda: calibatt.load(self.path + "\0b"))
        self.refused("has a zero byte", lambda: self.package.prewarm([0], device="host\0b"))
        self.refused("has a zero byte", lambda: Counts(os.path.join(self.folder, "counts\0b")))

    def test_some_of_the_heads_need_to_be_told_which(self):
        q, k, v = self.tensors(heads=2)
        heads = self.sample["heads"]
        self.refused(f"q has 2 heads, the package has {heads}: of some of them say the first by head_begin",
                     lambda: self.package.attention(q, k, v, layer=0, step=0))
        self.refused("by head_begin", lambda: self.package.energy(q, k, v))
        whole = self.tensors()
        wanted = self.package.attention(*whole, layer=0, step=0)
        for begin in range(heads - 1):
            part = [x[:, begin:begin + 2].copy() for x in whole]
            numpy.testing.assert_allclose(
                self.package.attention(*part, layer=0, step=0, head_begin=begin),
                wanted[:, begin:begin + 2], rtol=1e-5, atol=1e-6)
        self.refused("head", lambda: self.package.attention(q, k, v, layer=0, step=0, head_begin=heads - 1))

    def test_token_major_and_grouped_tensors_get_a_hint(self):
        q, k, v = self.tensors()
        self.refused("it looks like .batch, tokens, heads, dim., transpose.1, 2. it",
                     lambda: self.package.attention(
                         *(x.transpose(0, 2, 1, 3).copy() for x in (q, k, v)), layer=0, step=0))
        self.refused("grouped queries: repeat each head of k 3 times",
                     lambda: self.package.attention(q, k[:, :1], v[:, :1], layer=0, step=0))
        with self.assertRaises(calibatt.Error) as raised:
            self.package.attention(q, k[:, :, :7], v, layer=0, step=0)
        self.assertNotIn("grouped", str(raised.exception))

    def test_dense_calls_of_another_length_are_refused_with_the_reason(self):
        call = self.tensors(tokens=400)
        self.refused("the call has 400 tokens, and the package's dense kernel is for 420",
                     lambda: self.package.attention(*call, layer=0, step=0, allow_dense=True))

    def test_steps_beyond_the_schedule_run_dense_where_that_is_allowed_and_are_counted(self):
        with calibatt.load(self.path) as package:
            q, k, v = self.tensors()
            self.refused("step", lambda: package.attention(q, k, v, layer=0, step=99))
            package.prewarm([0, 99], device="host", allow_dense=True)
            out = package.attention(q, k, v, layer=0, step=99, allow_dense=True)
            package.attention(q, k, v, layer=0, step=0)
            logits = q.astype(float) @ k.astype(float).transpose(0, 1, 3, 2) * self.sample["scale"]
            weights = numpy.exp(logits - logits.max(-1, keepdims=True))
            numpy.testing.assert_allclose(
                out, weights @ v / weights.sum(-1, keepdims=True), rtol=1e-4, atol=1e-5)
            # Two sessions, strict and not, in one sum.
            stats = package.stats()["host", 0, self.sample["heads"]]
            self.assertEqual((stats["calls"], stats["dense_fallbacks"]), (2, 1))
            self.assertIn("99", stats["last_fallback_reason"])

    @unittest.skipIf(ml_dtypes is None, "ml_dtypes is not installed")
    def test_bf16_of_ml_dtypes_runs_on_the_host(self):
        arrays = [x.astype(ml_dtypes.bfloat16) for x in self.tensors()]
        out, lse = self.package.attention(*arrays, layer=0, step=0, lse=True)
        self.assertEqual(out.dtype, ml_dtypes.bfloat16)
        wide = [x.astype(numpy.float32) for x in arrays]
        wanted, wanted_lse = self.package.attention(*wide, layer=0, step=0, lse=True)
        numpy.testing.assert_allclose(out.astype(numpy.float32), wanted, rtol=1e-2, atol=1e-2)
        numpy.testing.assert_allclose(lse, wanted_lse, rtol=1e-5, atol=1e-5)
        self.refused("q has dtype float16, wanted float32 or bfloat16", lambda: self.package.attention(
            *(x.astype(numpy.float16) for x in wide), layer=0, step=0))

    @unittest.skipIf(torch is None, "torch is not installed")
    def test_tensors_that_are_more_than_their_memory_are_refused(self):
        q, k, v = map(torch.from_numpy, self.tensors())
        q.requires_grad_()
        self.refused("q needs gradients, which kernels do not compute",
                     lambda: self.package.attention(q, k, v, layer=0, step=0))
        with torch.no_grad():
            out = self.package.attention(q, k, v, layer=0, step=0)
        self.assertFalse(out.requires_grad)
        q = q.detach()
        self.refused("v is a negated view", lambda: self.package.attention(
            q, k, torch.view_as_complex(torch.randn(*v.shape, 2)).conj().imag, layer=0, step=0))
        self.refused("k has layout torch.sparse_coo", lambda: self.package.attention(
            q, k.to_sparse(), v, layer=0, step=0))
        wrapped = torch.testing._internal.two_tensor.TwoTensor(k, k)
        self.refused("k is a TwoTensor, wanted a plain tensor", lambda: self.package.attention(
            q, wrapped, v, layer=0, step=0))


if __name__ == "__main__":
    unittest.main()
