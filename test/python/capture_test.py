"""Capture with NumPy arrays: what is counted, what is refused, what it tells."""

import io
import json
import os
import tempfile
import unittest
import unittest.mock
import warnings

try:
    import numpy
except ImportError:
    numpy = None

import calibatt
from calibatt.counts import Counts
from calibatt.progress import Progress, duration

GRID, HEADS, DIM = (2, 5, 30), 2, 64  # 300 tokens: two blocks of 128 and a tail of 44
LAYERS, STEPS = 2, 3


def reference(q, k, scale, blocks=3):
    """Block energies [heads, blocks, blocks] of [heads, tokens, dim], in float64."""
    logits = q.astype(float) @ k.astype(float).transpose(0, 2, 1) * scale
    weights = numpy.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    edges = [min(128 * block, q.shape[1]) for block in range(blocks + 1)]
    energies = numpy.zeros((q.shape[0], blocks, blocks))
    for r in range(blocks):
        for c in range(blocks):
            part = weights[:, edges[r]:edges[r + 1], edges[c]:edges[c + 1]]
            energies[:, r, c] = part.sum(axis=(1, 2)) / max(1, edges[r + 1] - edges[r])
    return energies


class Watched(calibatt.energies.CpuEnergies):
    """Keeps what it measures."""

    def __init__(self):
        super().__init__()
        self.measured = []

    def measure(self, *arguments):
        self.measured.append(super().measure(*arguments))
        return self.measured[-1]


@unittest.skipIf(numpy is None, "NumPy is not installed")
class CaptureTest(unittest.TestCase):
    def setUp(self):
        self.out = os.path.join(self.enterContext(tempfile.TemporaryDirectory()), "P.counts.safetensors")
        self.random = numpy.random.default_rng()

    def capture(self, **options):
        options = {"model": "m", "grid": GRID, "steps": STEPS, "layers": LAYERS, "progress": False} | options
        return calibatt.Capture(self.out, **options)

    def qk(self, tokens=300, heads=HEADS, batch=1):
        return [(2 * self.random.normal(size=(batch, heads, tokens, DIM))).astype(numpy.float32)
                for _ in range(2)]

    def observe(self, capture, layers=LAYERS, steps=STEPS, **more):
        for step in range(steps):
            for layer in range(layers):
                capture.observe(*self.qk(**more), layer=layer, step=step)

    def test_what_is_measured_is_the_attention_of_the_blocks(self):
        watched = Watched()
        with self.capture(energies=watched, scale=0.2) as capture, capture.prompt("a"):
            given = [self.qk() for _ in range(LAYERS * STEPS)]
            for index, (q, k) in enumerate(given):
                # Any strides do whose last dimension is contiguous.
                q, k = (x.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3) for x in (q, k))
                capture.observe(q, k, layer=index % LAYERS, step=index // LAYERS)
        for (q, k), (energies, *_) in zip(given, watched.measured, strict=True):
            numpy.testing.assert_allclose(energies, reference(q[0], k[0], 0.2), atol=1e-6)
            numpy.testing.assert_allclose(energies.sum(axis=-1), 1, atol=1e-5)

    def test_text_after_the_video_is_part_of_the_attention_up_to_its_true_length(self):
        watched = Watched()
        with self.capture(energies=watched, max_text=100, layers=1, steps=2) as capture:
            with capture.prompt("short"), self.subTest("45 of 100 text tokens"):
                given = [self.qk(tokens=345) for _ in range(2)]
                for step, (q, k) in enumerate(given):
                    capture.observe(q, k, layer=0, step=step, text=45)
        for (q, k), (energies, *_) in zip(given, watched.measured, strict=True):
            self.assertEqual(energies.shape, (HEADS, 4, 4))
            wanted = reference(q[0], k[0], 1 / 8, blocks=4)
            numpy.testing.assert_allclose(energies[:, :3], wanted[:, :3], atol=1e-6)
            # The last block has no token of this prompt.
            self.assertEqual(energies[:, :3, 3].max(), 0)

    def test_the_unconditional_branch_does_nothing(self):
        with self.capture() as capture, capture.prompt("a"):
            for step in range(STEPS):
                for layer in range(LAYERS):
                    for branch in ("uncond", "cond"):
                        capture.observe(*self.qk(), layer=layer, step=step, branch=branch)
            with self.assertRaisesRegex(calibatt.Error, "branch is 'both', wanted"):
                capture.observe(*self.qk(), layer=0, step=0, branch="both")

    def test_prompts_are_counted_as_a_whole_and_a_later_run_goes_on(self):
        with self.assertRaises(ZeroDivisionError), self.capture() as capture:
            with capture.prompt("whole"):
                self.observe(capture)
            with capture.prompt("half"):
                self.observe(capture, steps=2)
                raise ZeroDivisionError
        watched = Watched()
        with self.capture(energies=watched) as capture:
            self.assertIn("whole", capture)
            self.assertNotIn("half", capture)
            with capture.prompt("whole"):
                self.observe(capture)
            self.assertEqual(watched.measured, [], "a counted prompt is not measured again")
            with capture.prompt("half"):
                self.observe(capture)
        with Counts(self.out) as counts:
            self.assertEqual(counts.prompts(), ["half", "whole"])

    def test_a_text_that_is_too_long_for_an_id_is_known_by_its_beginning_and_a_hash(self):
        texts = ["ein Hügel\nim Nebel", 600 * "ü", 599 * "ü" + "u", "short"]
        with self.capture() as capture:
            for text in texts:
                self.assertNotIn(text, capture)
                with capture.prompt(text):
                    self.observe(capture)
        with self.capture() as capture:
            for text in texts:
                self.assertIn(text, capture)
        with Counts(self.out) as counts:
            self.assertIn("short", counts.prompts())
            self.assertTrue(any(p.startswith("ein Hügel im Nebel... ") for p in counts.prompts()))

    def test_a_prompt_with_missing_calls_is_an_error_that_names_the_first(self):
        with self.capture() as capture:
            with self.assertRaisesRegex(
                    calibatt.Error,
                    "'a': 5 of 6 calls were observed, the first missing is layer 1, step 2"):
                with capture.prompt("a"):
                    self.observe(capture, steps=2)
                    capture.observe(*self.qk(), layer=0, step=2)
            with capture.prompt("b"):
                self.observe(capture)
        with Counts(self.out) as counts:
            self.assertEqual(counts.prompts(), ["b"])

    def test_nan_and_infinity_are_named_by_layer_and_step_and_the_prompt_is_not_counted(self):
        with self.capture() as capture:
            for number, bad in enumerate((numpy.nan, numpy.inf)):
                with warnings.catch_warnings(record=True) as told, capture.prompt(f"bad {number}"):
                    warnings.simplefilter("always")
                    for step in range(STEPS):
                        for layer in range(LAYERS):
                            q, k = self.qk()
                            if (layer, step) == (1, 1):
                                (q, k)[number][0, 1, 299, 3] = bad
                            capture.observe(q, k, layer=layer, step=step)
                self.assertEqual(len(told), 1)
                self.assertRegex(capture.refused[f"bad {number}"], "^layer 1, step 1: .*head 1")
            with capture.prompt("good"):
                self.observe(capture)
        with Counts(self.out) as counts:
            self.assertEqual(counts.prompts(), ["good"])

    def test_what_does_not_fit_is_refused_with_both_sides(self):
        q, k = self.qk()
        cases = [
            ("q has 299 tokens, wanted 300 .grid 2x5x30 and 0 of text",
             lambda c: c.observe(*self.qk(tokens=299), layer=0, step=1)),
            ("q has shape .2, 2, 300, 64., wanted .1, heads, tokens, dim.",
             lambda c: c.observe(*self.qk(batch=2), layer=0, step=1)),
            ("k is float32 .1, 1, 300, 64., q is float32 .1, 2, 300, 64.",
             lambda c: c.observe(q, k[:, :1], layer=0, step=1)),
            ("q has dtype float64, wanted bfloat16, float32, float16",
             lambda c: c.observe(q.astype(float), k.astype(float), layer=0, step=1)),
            ("the capture has steps 0 to 2", lambda c: c.observe(q, k, layer=0, step=3)),
            ("the capture has layers 0 to 1", lambda c: c.observe(q, k, layer=2, step=0)),
            ("4 text tokens, wanted at most 0",
             lambda c: c.observe(*self.qk(tokens=304), layer=0, step=1, text=4)),
            ("layer 0, step 0: observed twice", lambda c: c.observe(q, k, layer=0, step=0)),
            ("q has 1 heads of 64 f32, it had 2 of 64 f32",
             lambda c: c.observe(*self.qk(heads=1), layer=0, step=1)),
            ("'b' begins inside of prompt 'a'", lambda c: c.begin("b")),
        ]
        for words, call in cases:
            with self.subTest(words), self.capture() as capture:
                with self.assertRaisesRegex(calibatt.Error, words), capture.prompt("a"):
                    capture.observe(*self.qk(), layer=0, step=0)
                    call(capture)
        with self.capture() as capture, self.assertRaisesRegex(calibatt.Error, "outside of a prompt"):
            capture.observe(q, k, layer=0, step=0)
        with self.assertRaisesRegex(calibatt.Error, "grid is .2, 5, 0., wanted"):
            self.capture(grid=(2, 5, 0))

    def test_counts_of_something_else_are_refused(self):
        with self.capture() as capture, capture.prompt("a"):
            self.observe(capture)
        steps = [{"timestep": 900 - step, "sigma": 0.9} for step in range(STEPS)]
        for words, changed in (("model", {"model": "other"}), ("grid", {"grid": (5, 2, 30)}),
                               ("timestep", {"steps": steps}), ("criterion: a: got 0.5", {"eps": (0.5, 0.9, 3)})):
            for name in ("a", "b") if words == "model" else ("b",):
                with self.subTest(words, prompt=name), self.capture(**changed) as capture:
                    with self.assertRaisesRegex(calibatt.Error, words), capture.prompt(name):
                        capture.observe(*self.qk(), layer=0, step=0)

    def test_two_writers_at_once_are_refused(self):
        with self.capture() as first, first.prompt("a"):
            first.observe(*self.qk(), layer=0, step=0)
            with self.capture() as second, self.assertRaises(calibatt.Error) as raised:
                with second.prompt("b"):
                    second.observe(*self.qk(), layer=0, step=0)
            self.assertEqual(raised.exception.status, "CALIBATT_PROFILE_STATUS_BUSY")
            for index in range(1, LAYERS * STEPS):
                first.observe(*self.qk(), layer=index % LAYERS, step=index // LAYERS)

    def test_a_profile_is_selected_from_the_counts(self):
        with self.capture() as capture:
            for name in "abc":
                with capture.prompt(name):
                    self.observe(capture)
        profile = self.out.replace("counts", "calib")
        with Counts(self.out) as counts:
            result = counts.select(profile, rho=1.0)
        self.assertEqual(result["sites"], LAYERS * HEADS * STEPS)
        self.assertGreater(result["density"], 0)
        self.assertTrue(os.path.getsize(profile))


class ProgressTest(unittest.TestCase):
    def test_elsewhere_than_on_a_terminal_it_is_json_lines(self):
        stream = io.StringIO()
        progress = Progress(prompts=3, calls=4, stream=stream, interval=0)
        progress.begin("a cat")
        for call in range(4):
            progress.call(layer=call % 2, step=call // 2, density=0.25)
        progress.end("counted", density=0.25)
        progress.begin("a dog")
        progress.end("refused", reason="layer 0, step 1: head 1 has a NaN")
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        self.assertEqual([line["event"] for line in lines],
                         ["begin", *["progress"] * 4, "counted", "begin", "refused"])
        last = lines[4]
        self.assertEqual((last["prompt"], last["step"], last["layer"]), ("a cat", 1, 1))
        self.assertEqual((last["done"], last["total"], last["prompts"]), (4, 4, 3))
        self.assertIsNone(lines[1]["seconds_left"])
        self.assertGreaterEqual(last["seconds_left"], 0)
        self.assertEqual(lines[5]["prompts_done"], 1)
        self.assertIn("NaN", lines[-1]["reason"])

    def test_the_time_left_is_that_of_all_prompts(self):
        progress = Progress(prompts=10, calls=100, stream=io.StringIO())
        progress.begin("a")
        progress._timed, progress._calls, progress.done = [10, 20.0], 50, 4
        self.assertEqual(progress.seconds_left(), 2.0 * (50 + 5 * 100))

    def test_a_terminal_has_one_line_that_is_written_over(self):
        stream = io.StringIO()
        stream.isatty = lambda: True
        self.enterContext(unittest.mock.patch.dict(os.environ, COLUMNS="120"))
        progress = Progress(prompts=2, calls=2, stream=stream, interval=0)
        progress.begin("a prompt with a text that is much longer than a line")
        progress.call(layer=0, step=0, density=0.3125)
        progress.call(layer=0, step=1, density=0.3125)
        progress.end("counted")
        self.assertEqual(stream.getvalue().count("\n"), 1)
        self.assertIn("prompt 1/2 a prompt with a text that is …  step 0, layer 0  50 %  density 31.2 %",
                      stream.getvalue())

    def test_durations_are_for_people(self):
        self.assertEqual([duration(s) for s in (4, 89, 125, 5399, 11000)],
                         ["4 s", "89 s", "2 min", "1 h 30 min", "3 h 03 min"])


if __name__ == "__main__":
    unittest.main()
