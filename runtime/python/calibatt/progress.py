"""What a long calibration tells while it runs: a line on a terminal, JSON lines elsewhere."""

import json
import shutil
import sys
import time


def duration(seconds):
    """For people: "41 s", "12 min", "3 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """Counts calls (one layer of one step) and tells at most once in `interval` seconds; where
    prompts begin and end, always. The first of the calls is not timed: it loads and allocates."""

    def __init__(self, prompts, calls, *, stream=None, interval=None):
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.interval = (0.2 if self.terminal else 10.0) if interval is None else interval
        self.prompts = prompts  # None: nobody knows how many there will be
        self.calls = calls  # of one prompt
        self.done = 0  # prompts, whether counted, skipped or refused
        self.prompt = None
        self._calls = 0
        self._timed = [0, 0.0]
        self._last_call = None
        self._last_line = 0.0

    def begin(self, prompt):
        self.prompt = prompt
        self._calls = 0
        self._last_call = None
        self._tell("begin", always=True)

    def call(self, layer, step, density):
        """One call is measured; `density` is the mean share of blocks that covers keep so far."""
        now = time.monotonic()
        if self._last_call is not None:
            self._timed[0] += 1
            self._timed[1] += now - self._last_call
        self._last_call = now
        self._calls += 1
        self._tell("progress", step=step, layer=layer, density=round(density, 4),
                   seconds_left=self.seconds_left())

    def end(self, result, **more):
        """`result`: counted, skipped, refused or abandoned."""
        self.done += 1
        self._tell(result, always=True, **more)
        self._calls = 0

    def seconds_left(self):
        """Of all prompts where their number is known, else of this one; None before the second
        call."""
        count, seconds = self._timed
        if not count:
            return None
        prompts = max(0, self.prompts - self.done - 1) if self.prompts else 0
        return round(seconds / count * (self.calls - self._calls + prompts * self.calls), 1)

    def _tell(self, event, always=False, **fields):
        now = time.monotonic()
        if not always and now - self._last_line < self.interval and self._calls < self.calls:
            return
        self._last_line = now
        if not self.terminal:
            fields = {"event": event, "prompt": self.prompt, "prompts_done": self.done,
                      "prompts": self.prompts, "done": self._calls, "total": self.calls,
                      **fields}
            print(json.dumps(fields), file=self.stream, flush=True)
            return
        name = self.prompt if len(self.prompt) <= 30 else self.prompt[:29] + "…"
        text = f"prompt {self.done + (event in ('begin', 'progress'))}"
        text += f"/{self.prompts}" if self.prompts else ""
        text += f" {name}"
        if event == "progress":
            text += (f"  step {fields['step']}, layer {fields['layer']}"
                     f"  {100 * self._calls / self.calls:.0f} %  density {100 * fields['density']:.1f} %")
            if fields["seconds_left"] is not None:
                text += f"  {duration(fields['seconds_left'])} left"
        elif event != "begin":
            text += f"  {event}" + (f": {fields['reason']}" if fields.get("reason") else "")
        # A line that says how a prompt ended stays; others are written over, if they do not wrap.
        end = "\n"
        if event in ("begin", "progress"):
            text, end = text[:shutil.get_terminal_size().columns - 1], ""
        print(f"\r\033[K{text}", end=end, file=self.stream, flush=True)
