"""The Python package on the host device, against a float64 masked reference in NumPy."""

import json
import os
import subprocess
import tempfile
import unittest

try:
    import numpy
except ImportError:
    numpy = None
try:
    import torch
except ImportError:
    torch = None

import calibatt
import calibatt.abi

BLOCK = 128


def masked_reference(q, k, v, blocks, scale):
    """O and LSE of one head in float64; `blocks[row]` lists the kept key blocks."""
    tokens = q.shape[0]
    kept = numpy.zeros((tokens, tokens), dtype=bool)
    for row, columns in enumerate(blocks):
        for column in columns:
            kept[row * BLOCK:(row + 1) * BLOCK, column * BLOCK:(column + 1) * BLOCK] = True
    logits = numpy.where(kept, q.astype(float) @ k.astype(float).T * scale, -numpy.inf)
    maximum = logits.max(axis=1, keepdims=True)
    weights = numpy.exp(logits - maximum)
    total = weights.sum(axis=1, keepdims=True)
    return weights @ v.astype(float) / total, (maximum + numpy.log(total))[:, 0]


@unittest.skipIf(numpy is None, "NumPy is not installed")
class PackageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = os.path.join(cls.folder.name, "sample.calibatt")
        made = subprocess.run(
            [os.environ["CALIBATT_MAKE_SAMPLE"], cls.path], check=True, capture_output=True)
        cls.sample = json.loads(made.stdout)
        cls.random = numpy.random.default_rng()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        self.package = calibatt.load(self.path)
        self.addCleanup(self.package.close)

    def tensors(self, batch=1, heads=None, tokens=None):
        shape = (batch, heads or self.sample["heads"], tokens or self.sample["tokens"],
                 self.sample["head_dim"])
        return [self.random.normal(size=shape).astype(numpy.float32) for _ in range(3)]

    def compare(self, q, k, v, out, lse, layer, step, bound=1e-5, head_begin=0):
        error = norm = 0.0
        for b in range(q.shape[0]):
            for h in range(q.shape[1]):
                blocks = self.sample["blocks"][layer][h + head_begin][step]
                o, l = masked_reference(q[b, h], k[b, h], v[b, h], blocks, self.sample["scale"])
                error += ((out[b, h] - o) ** 2).sum()
                norm += (o ** 2).sum()
                if lse is not None:
                    numpy.testing.assert_allclose(lse[b, h], l, atol=1e-4)
        self.assertLess((error / norm) ** 0.5, bound, f"seed {self.sample['seed']}")

    def test_info_is_what_the_package_was_compiled_for(self):
        info = self.package.info
        for field in ("layers", "heads", "steps", "tokens", "head_dim", "scale"):
            self.assertEqual(info[field], self.sample[field])
        self.assertEqual(info["archs"], "sm_90a")
        self.assertIn("420 tokens", repr(self.package))

    def test_a_package_that_is_truncated_while_it_is_loaded_is_an_error_and_no_signal(self):
        path = os.path.join(self.folder.name, "truncated.calibatt")
        with open(self.path, "rb") as whole, open(path, "wb") as copy:
            copy.write(whole.read())
        package = calibatt.load(path)
        self.addCleanup(package.close)
        q, k, v = self.tensors()
        package.attention(q, k, v, layer=0, step=0)
        os.truncate(path, 5000)
        failed = 0
        for step in range(self.sample["steps"]):
            try:
                package.attention(q, k, v, layer=1, step=step)
            except calibatt.Error as error:
                self.assertRegex(str(error), "truncated.calibatt: ends at byte 5000, but had "
                                             "[0-9]+ bytes when it was opened: somebody truncated")
                failed += 1
        self.assertGreater(failed, 0)
        self.assertEqual(package.info["layers"], self.sample["layers"])
        with self.assertRaisesRegex(calibatt.Error, "truncated.calibatt: "):
            calibatt.load(path)

    def test_every_site_is_the_masked_attention(self):
        for layer in range(self.sample["layers"]):
            for step in range(self.sample["steps"]):
                q, k, v = self.tensors(batch=2)
                out, lse = self.package.attention(q, k, v, layer=layer, step=step, lse=True)
                self.compare(q, k, v, out, lse, layer, step)

    def test_transposed_arrays_and_a_given_output_are_used_in_place(self):
        q, k, v = (x.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3) for x in self.tensors())
        out = numpy.full(q.shape, numpy.nan, dtype=numpy.float32)
        self.assertIs(self.package.attention(q, k, v, layer=1, step=0, out=out), out)
        self.compare(q, k, v, out, None, 1, 0)

    def test_a_head_range_takes_the_tensors_of_its_heads(self):
        q, k, v = self.tensors(heads=2)
        out = self.package.attention(q, k, v, layer=0, step=1, head_begin=1)
        self.compare(q, k, v, out, None, 0, 1, head_begin=1)

    def test_energies_are_those_of_the_attention_matrix(self):
        q, k, v = self.tensors(batch=2)
        got = self.package.energy(q, k, v, epsilon=0.9, energies=True, row_max=True, lse=True)
        tokens, blocks = q.shape[2], self.package.info["blocks"]
        starts = numpy.arange(0, tokens, BLOCK)
        for b in range(2):
            for h in range(q.shape[1]):
                logits = q[b, h].astype(float) @ k[b, h].astype(float).T * self.sample["scale"]
                weights = numpy.exp(logits - logits.max(1, keepdims=True))
                weights /= weights.sum(1, keepdims=True)
                rows = numpy.add.reduceat(numpy.add.reduceat(weights, starts, 1), starts, 0)
                rows /= numpy.diff(numpy.append(starts, tokens))[:, None]
                numpy.testing.assert_allclose(got.energies[b, h], rows, rtol=1e-4)
                numpy.testing.assert_allclose(got.row_max[b, h], logits.max(1), atol=1e-5)
                numpy.testing.assert_allclose(got.out[b, h], weights @ v[b, h], atol=1e-5)
                bits = numpy.unpackbits(got.cover[b, h], axis=-1, bitorder="little")[:, :blocks]
                for energies, kept in zip(got.energies[b, h].astype(float), bits.astype(bool)):
                    least = energies[kept].min()
                    self.assertTrue((energies[~kept] <= least).all())
                    self.assertGreaterEqual(energies[kept].sum(), 0.9 * energies.sum())
                    self.assertLess(energies[kept].sum() - least, 0.9 * energies.sum())
        self.assertIsNone(got.repetition)
        with self.assertRaisesRegex(calibatt.Error, "has no rows to score"):
            self.package.energy(q, k, v, repetition=True)
        with self.assertRaisesRegex(calibatt.Error, "epsilon is 2"):
            self.package.energy(q, k, v, epsilon=2)

    def test_site_masks_are_the_rows_that_went_in(self):
        for head in range(self.sample["heads"]):
            mask = self.package.site_mask(1, head, 1)
            kept = [[c for c, keep in enumerate(row) if keep] for row in mask]
            self.assertEqual(kept, [sorted(r) for r in self.sample["blocks"][1][head][1]])

    def test_refusals_are_errors_with_both_sides(self):
        q, k, v = self.tensors()
        cases = [
            ("no kernel for layer 9: it has layers 0 to 1",
             lambda: self.package.attention(q, k, v, layer=9, step=0)),
            ("step is -1, wanted 0",
             lambda: self.package.attention(q, k, v, layer=0, step=-1)),
            ("package has grid 1x1x420 .420 tokens., call has 400 tokens",
             lambda: self.package.attention(*self.tensors(tokens=400), layer=0, step=0)),
            ("package was compiled for scale 0.125, call has 0.5",
             lambda: self.package.attention(q, k, v, layer=0, step=0, scale=0.5)),
            ("q has dtype float64, wanted float32",
             lambda: self.package.attention(q.astype(float), k, v, layer=0, step=0)),
            ("v has shape .*, q has",
             lambda: self.package.attention(q, k, v[:, :1], layer=0, step=0)),
            ("q has shape .*, wanted .batch, heads, tokens, dim.",
             lambda: self.package.attention(q[0], k[0], v[0], layer=0, step=0)),
            ("in its last dimension, wanted 1",
             lambda: self.package.attention(q[..., ::-1], k, v, layer=0, step=0)),
            ("repeats one row in every dimension",
             lambda: self.package.attention(
                 numpy.broadcast_to(q[:1, :1, :1], q.shape), k, v, layer=0, step=0)),
            ("device is 'cuda:0', but the tensors are on 'host'",
             lambda: self.package.attention(q, k, v, layer=0, step=0, device="cuda:0")),
            ("q is a list, wanted a torch tensor or NumPy array",
             lambda: self.package.attention([1], k, v, layer=0, step=0)),
        ]
        for words, call in cases:
            with self.subTest(words), self.assertRaisesRegex(calibatt.Error, words):
                call()

    def test_a_read_only_output_is_refused(self):
        q, k, v = self.tensors()
        out = numpy.zeros_like(q)
        out.flags.writeable = False
        with self.assertRaisesRegex(calibatt.Error, "out is read-only"):
            self.package.attention(q, k, v, layer=0, step=0, out=out)

    def test_match_says_why_a_call_fits_or_not(self):
        fits, why = self.package.match(*self.tensors(), layer=0, step=0)
        self.assertTrue(fits)
        self.assertIn("fits; 1 launch", why)
        fits, why = self.package.match(*self.tensors(tokens=128), layer=0, step=0)
        self.assertFalse(fits)
        self.assertIn("call has 128 tokens", why)

    def test_dense_fallbacks_are_counted_with_their_reason(self):
        q, k, v = self.tensors()
        out = self.package.attention(q, k, v, layer=7, step=0, allow_dense=True)
        dense = [list(range(4))] * 4
        wanted, _ = masked_reference(q[0, 2], k[0, 2], v[0, 2], dense, self.sample["scale"])
        numpy.testing.assert_allclose(out[0, 2], wanted, atol=1e-5)
        stats = self.package.stats()["host", 0, 3]
        self.assertEqual(stats["dense_fallbacks"], 1)
        self.assertIn("no kernel for layer 7", stats["last_fallback_reason"])

    def test_a_cuda_session_without_a_driver_says_what_is_missing(self):
        script = ("import calibatt, sys\n"
                  "try:\n  calibatt.load(sys.argv[1]).prewarm([0], device='cuda:0')\n"
                  "except calibatt.Error as e:\n  print(e.status, e)\n")
        environment = dict(os.environ, CALIBATT_LIBCUDA="/nonexistent/libcuda.so.1")
        said = subprocess.run([os.sys.executable, "-c", script, self.path], env=environment,
                              check=True, capture_output=True, text=True).stdout
        self.assertRegex(said, "^CALIBATT_STATUS_NO_DEVICE /nonexistent/libcuda.so.1 not found")

    def test_a_closed_or_missing_package_is_an_error(self):
        self.package.close()
        with self.assertRaisesRegex(calibatt.Error, "is closed"):
            self.package.attention(*self.tensors(), layer=0, step=0)
        with self.assertRaisesRegex(calibatt.Error, "/nonexistent.calibatt") as raised:
            calibatt.load("/nonexistent.calibatt")
        self.assertEqual(raised.exception.status, "CALIBATT_STATUS_BAD_PACKAGE")

    @unittest.skipIf(torch is None, "torch is not installed")
    def test_torch_tensors_on_the_cpu_run_on_the_host(self):
        arrays = self.tensors()
        for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 3e-3)):
            q, k, v = (torch.from_numpy(x).to(dtype) for x in arrays)
            out, lse = self.package.attention(q, k, v, layer=0, step=0, lse=True)
            self.assertEqual(out.dtype, dtype)
            rounded = [x.float().numpy() for x in (q, k, v)]
            self.compare(*rounded, out.float().numpy(), lse.numpy(), 0, 0, bound)


class LibraryTest(unittest.TestCase):
    def test_the_structs_of_the_abi_have_the_sizes_the_library_expects(self):
        # The library refuses a struct_size that is too large; a layout that is too small would show
        # in the fields of info and stats.
        path = os.path.join(tempfile.mkdtemp(), "sample.calibatt")
        subprocess.run([os.environ["CALIBATT_MAKE_SAMPLE"], path], check=True, capture_output=True)
        with calibatt.load(path) as package:
            self.assertEqual(package.info["file_bytes"], os.path.getsize(path))
            package.prewarm([0, 1], device="host")
            self.assertEqual(package.stats()["host", 0, 3]["last_fallback_reason"], "")

    def test_a_library_named_but_missing_is_an_error_that_names_it(self):
        script = ("import calibatt\n"
                  "try:\n  calibatt.load('x')\nexcept calibatt.Error as e:\n  print(e)\n")
        environment = dict(os.environ, CALIBATT_LIBRARY="/nonexistent/libcalibatt.so")
        said = subprocess.run([os.sys.executable, "-c", script], env=environment, check=True,
                              capture_output=True, text=True).stdout
        self.assertIn("set CALIBATT_LIBRARY to it (tried: /nonexistent/libcalibatt.so", said)


if __name__ == "__main__":
    unittest.main()
