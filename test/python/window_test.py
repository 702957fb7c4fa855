"""Which steps a window asks for, over a package that only records."""

import threading
import unittest

import calibatt
from calibatt.window import Window


class Tensor:
    is_cuda = True

    class device:
        index = 0

    def __init__(self, batch=1, heads=4):
        self.shape = (batch, heads, 256, 64)


class Recorder:
    """Stands for a package on a GPU: this machine has none."""

    info = {"steps": 5}

    def __init__(self):
        self.prewarmed, self.forgotten, self.budgets, self.error = [], [], [], None

    def prewarm(self, steps, *, device, batch, head_begin, head_count, allow_dense, byte_budget):
        self.prewarmed.append((tuple(steps), batch, byte_budget))
        if self.error and len(self.prewarmed) > 1:
            raise self.error

    def stats(self):
        return {("cuda:0", 0, 4): {"device_bytes": 700}}

    def forget(self, **session):
        self.forgotten.append(session["byte_budget"])

    def attention(self, q, k, v, *, step, head_begin, allow_dense, byte_budget, **options):
        self.budgets.append(byte_budget)
        return step


class WindowTest(unittest.TestCase):
    def go(self, window, steps, **options):
        q, made = Tensor(), []
        for step in steps:
            made += [window.attention(q, q, q, step=step, layer=layer, **options) for layer in range(3)]
            window._ahead.submit(lambda: None).result()  # what was asked for before has come
        return made

    def test_a_step_and_the_next_are_asked_for_once_a_step_and_the_last_alone(self):
        package = Recorder()
        window = Window(package)
        self.assertEqual(self.go(window, range(5)), [step for step in range(5) for _ in range(3)])
        window.close()
        measured, *ahead = package.prewarmed
        self.assertEqual(measured[:2], ((0, 1), 1))
        self.assertEqual([steps for steps, *_ in ahead], [(0, 1), (1, 2), (2, 3), (3, 4), (4,)])
        self.assertEqual({budget for *_, budget in ahead}, {1400})
        self.assertEqual(set(package.budgets), {1400})
        self.assertEqual(package.forgotten, [measured[2]])

    def test_a_budget_that_is_given_is_taken_and_nothing_is_measured(self):
        for given in (0, 4096):
            package = Recorder()
            window = Window(package, given)
            self.go(window, [2])
            window.close()
            self.assertEqual(package.prewarmed, [((2, 3), 1, given)])
            self.assertEqual(set(package.budgets), {given})

    def test_what_could_not_be_loaded_ahead_is_counted_and_its_calls_go_on(self):
        package = Recorder()
        package.error = calibatt.Error("byte_budget is 1400, but 1200 are in use")
        window = Window(package)
        self.assertEqual(len(self.go(window, range(2))), 6)
        window.close()
        self.assertEqual((window.loads, window.failed), (0, 4))
        self.assertIn("byte_budget is 1400", window.last_failure)

    def test_a_step_that_is_over_is_not_loaded_any_more(self):
        package, held = Recorder(), threading.Event()
        window = Window(package, 4096)
        window._ahead.submit(held.wait)
        q = Tensor()
        for step in range(4):
            window.attention(q, q, q, step=step, layer=0)
        held.set()
        window._ahead.submit(lambda: None).result()
        window.close()
        self.assertEqual([steps for steps, *_ in package.prewarmed], [(3, 4)])

    def test_on_the_host_nothing_is_loaded_ahead(self):
        package = Recorder()
        window = Window(package)
        q = Tensor()
        q.is_cuda = False
        window.attention(q, q, q, step=1, layer=0)
        window.close()
        self.assertEqual(package.prewarmed, [])


if __name__ == "__main__":
    unittest.main()
