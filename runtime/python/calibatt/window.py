"""A few steps of a package on a GPU at a time: the one that runs, and the next, which is on its way."""

import concurrent.futures
import threading

from .errors import Error


class Window:
    """`package` for a caller that goes from step to step: `attention()` as Package.attention.

    On a GPU, while a step runs another thread loads the next. Schedules of steps before are released
    when room is needed: the session's byte budget is twice what the first two steps took, or
    `byte_budget` (0: no limit). `loads` are the steps asked for ahead, `failed` those of them that could
    not be loaded then, and the reason of the last: their calls load them.
    """

    def __init__(self, package, byte_budget=None):
        self.package = package
        self.loads, self.failed, self.last_failure = 0, 0, None
        self._given = byte_budget
        self._budgets, self._steps = {}, {}  # by what a session is of
        self._lock = threading.Lock()
        self._ahead = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="calibatt-ahead")

    def attention(self, q, k, v, *, step, head_begin=None, allow_dense=False, **options):
        budget = self._given
        if getattr(q, "is_cuda", False):
            begin = 0 if head_begin is None else head_begin
            budget = self._at(step, q.shape[0], dict(
                device=f"cuda:{q.device.index}", head_begin=begin, heads=q.shape[1],
                allow_dense=bool(allow_dense)))
        return self.package.attention(
            q, k, v, step=step, head_begin=head_begin, allow_dense=allow_dense, byte_budget=budget,
            **options)

    def close(self):
        """Waits for what is on its way."""
        self._ahead.shutdown(wait=True, cancel_futures=True)

    def _at(self, step, batch, session):
        key = tuple(session.values())
        with self._lock:
            if key not in self._budgets:
                self._budgets[key] = self._measured(step, batch, session) if self._given is None else self._given
            budget = self._budgets[key]
            new, self._steps[key] = self._steps.get(key) != (step, batch), (step, batch)
        if new:
            self._ahead.submit(self._load, key, self._window(step), batch, session, budget)
        return budget

    def _window(self, step):
        steps = self.package.info["steps"]
        return [each for each in (step, step + 1) if each < steps]

    def _measured(self, step, batch, session):
        """Twice the bytes of two steps, as a session without a limit has them."""
        where = dict(session)
        heads, device = where.pop("heads"), where["device"]
        steps = self._window(step)
        if not steps:  # with allow_dense; nothing of it is a schedule
            return 0
        # Schedules have no more to do with the dense kernel.
        where["allow_dense"] = False
        self.package.prewarm(steps, batch=batch, head_count=heads, byte_budget=_UNLIMITED, **where)
        stats = self.package.stats()[device, where["head_begin"], heads]
        self.package.forget(heads=heads, byte_budget=_UNLIMITED, **where)
        return 2 * stats["device_bytes"]

    def _load(self, key, steps, batch, session, budget):
        where = dict(session)
        if not steps or self._steps[key] != (steps[0], batch):
            return  # the caller has gone on since
        try:
            self.package.prewarm(steps, batch=batch, head_count=where.pop("heads"), byte_budget=budget, **where)
            self.loads += len(steps)
        except Error as error:
            self.failed, self.last_failure = self.failed + len(steps), str(error)


_UNLIMITED = 2**64 - 1  # of its own session, which is no other's
