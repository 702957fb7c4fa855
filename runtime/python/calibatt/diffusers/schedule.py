"""Which step of a schedule a call of a transformer is.

A call carries its timestep, in whatever type the caller has: schedulers round to integers, modular
pipelines cast to bf16. The schedule's timesteps are cast alike and compared. Where several steps look
the same, what the caller tells beside it (sigma, index) decides, or nobody: then it is refused.
"""

import dataclasses
import math

import torch

from ..abi import Error


@dataclasses.dataclass
class Told:
    """What a caller says of a call beside its arguments; None where it does not."""

    #: Of the whole schedule, 0 for the noisiest.
    index: int | None = None
    sigma: float | None = None
    #: Number of steps.
    steps: int | None = None


def timestep_of(timestep):
    """The one timestep of a call's [batch] or [batch, tokens], as a float. Waits once for a GPU.

    Tokens of a frame that is given (Wan 2.2 5B) have 0 in place of the timestep.
    """
    rows = timestep.detach().reshape(timestep.shape[0] if timestep.ndim else 1, -1)
    high = rows.amax(dim=1)
    other = ((rows != high[:, None]) & (rows != 0)).any()
    *values, other = torch.cat([high.double(), other.double()[None]]).tolist()
    if len(set(values)) != 1:
        raise Error("the videos of the batch have different timesteps ({}): each step has masks of its "
                    "own".format(", ".join(f"{value:g}" for value in values)))
    if other:
        raise Error(f"the tokens have several timesteps up to {values[0]:g}, wanted one (and 0 for frames "
                    "that are given)")
    return values[0]


def steps_of(pipe, names):
    """The schedule that a pipeline's scheduler has set: {timestep, sigma, module} of every step. Of
    Wan 2.2's two transformers the pipeline's boundary tells which runs a step."""
    scheduler = pipe.scheduler
    timesteps = torch.as_tensor(scheduler.timesteps).cpu()
    sigmas = getattr(scheduler, "sigmas", None)
    sigmas = [0.0] * len(timesteps) if sigmas is None else torch.as_tensor(sigmas).tolist()
    ratio = getattr(pipe.config, "boundary_ratio", None)
    first = [True] * len(timesteps)
    if len(names) > 1 and ratio is not None:
        # As the pipeline does, in the type of its timesteps.
        first = (timesteps >= ratio * scheduler.config.num_train_timesteps).tolist()
    return [{"timestep": float(timestep), "sigma": float(sigma), "module": names[0 if early else 1]}
            for timestep, sigma, early in zip(timesteps.tolist(), sigmas, first)]


def index_of(scheduler):
    """The step that a scheduler says it is at, or None."""
    index = getattr(scheduler, "step_index", None)
    if index is None:  # before its first step
        index = getattr(scheduler, "begin_index", None)
    return None if index is None else int(index)


class Schedule:
    """The steps of `owner` (a package's path, say): a list of {timestep, sigma, module}, the noisiest
    first."""

    def __init__(self, steps, owner):
        self.steps = steps
        self.owner = owner
        self._cast = {}  # dtype -> timesteps as that type has them

    def __len__(self):
        return len(self.steps)

    def find(self, module, timestep, dtype, told):
        """The step at which the transformer `module` is called with `timestep`, a value of `dtype`."""
        found = self._at(timestep, dtype)
        if not found:
            raise Error(f"{self.owner}: timestep {timestep:g} is none of its {len(self)} steps "
                        f"({self._timesteps()}): another scheduler, shift or number of steps")
        own = [step for step in found if self.steps[step]["module"] == module]
        if not own:
            raise Error(f"{self.owner}: step {found[0]} (timestep {timestep:g}) is "
                        f"{self.steps[found[0]]['module']}'s, but {module} runs it: another boundary_ratio")
        if told.steps is not None and told.steps != len(self):
            raise Error(f"{self.owner}: has {len(self)} steps, the caller runs {told.steps}")
        if told.sigma is not None and self.has_sigmas:
            close = [step for step in own if _close(self.steps[step]["sigma"], told.sigma)]
            if not close:
                raise Error(f"{self.owner}: step {own[0]} (timestep {timestep:g}) has sigma "
                            f"{self.steps[own[0]]['sigma']:g}, the call {told.sigma:g}: another schedule")
            own = close
        if len(own) > 1 and told.index in own:
            return told.index
        if len(own) > 1:
            raise Error(f"{self.owner}: steps {', '.join(map(str, own))} all look like timestep "
                        f"{timestep:g} of {str(dtype).removeprefix('torch.')}, and nothing tells which runs: "
                        "name it by cache_context(step_index=...) around the call, or by enable(step=...)")
        return own[0]

    def check(self, steps, scheduler):
        """Refuses another schedule, `steps` of a pipeline's `scheduler`."""
        if len(steps) != len(self):
            raise Error(f"{self.owner}: has {len(self)} steps, the pipeline runs {len(steps)}")
        for step, (mine, other) in enumerate(zip(self.steps, steps)):
            for field, same in (
                    ("timestep", _close(mine["timestep"], other["timestep"], 1e-6)),
                    ("sigma", not self.has_sigmas or _close(mine["sigma"], other["sigma"])),
                    ("module", mine["module"] == other["module"])):
                if not same:
                    form = str if field == "module" else "{:g}".format
                    raise Error(f"{self.owner}: step {step} has {field} {form(mine[field])}, the schedule of "
                                f"the pipeline's {type(scheduler).__name__} has {form(other[field])}")

    @property
    def has_sigmas(self):
        return any(step["sigma"] for step in self.steps)

    def _at(self, timestep, dtype):
        if dtype not in self._cast:
            exact = torch.tensor([step["timestep"] for step in self.steps], dtype=torch.float64)
            self._cast[dtype] = exact.to(dtype).double().tolist()
        return [step for step, other in enumerate(self._cast[dtype]) if _close(timestep, other, 1e-6)]

    def _timesteps(self):
        values = [f"{step['timestep']:g}" for step in self.steps]
        return ", ".join(values if len(values) < 7 else [*values[:3], "...", *values[-2:]])


def _close(one, other, relative=1e-4):
    return math.isclose(one, other, rel_tol=relative, abs_tol=1e-9)
