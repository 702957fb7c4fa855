"""Which transformers of diffusers are known: their attention blocks in order, and their tokens."""

import inspect

from ..abi import Error

# Class name -> (attention modules in the order of the layers, patch in (frames, height, width),
# whether text follows the video in the same attention).
_MODELS = {
    "WanTransformer3DModel": (
        lambda model: [block.attn1 for block in model.blocks],
        lambda config: tuple(config.patch_size),
        False,
    ),
    # The blocks that make hints attend to the same tokens; their layers follow the others.
    "WanVACETransformer3DModel": (
        lambda model: [block.attn1 for block in (*model.blocks, *model.vace_blocks)],
        lambda config: tuple(config.patch_size),
        False,
    ),
    "MochiTransformer3DModel": (
        lambda model: [block.attn1 for block in model.transformer_blocks],
        lambda config: (1, config.patch_size, config.patch_size),
        True,
    ),
    "HunyuanVideoTransformer3DModel": (
        lambda model: [block.attn for block in
                       (*model.transformer_blocks, *model.single_transformer_blocks)],
        lambda config: (config.patch_size_t, config.patch_size, config.patch_size),
        True,
    ),
}

NAMES = ("transformer", "transformer_2")


def known(joint_text=True):
    """Class names of the transformers that can be calibrated, or without joint text, that run."""
    return [name for name, (_, _, joint) in _MODELS.items() if joint_text or not joint]


def unwrapped(module):
    """The module itself, of what torch.compile(module) returned."""
    return getattr(module, "_orig_mod", module)


class VideoTransformer:
    """One transformer of a pipeline; `name` is the pipeline's attribute ("transformer_2", say)."""

    def __init__(self, name, module, joint_text=True):
        module = unwrapped(module)
        self.name = name
        self.module = module
        self.kind = next((cls.__name__ for cls in type(module).__mro__ if cls.__name__ in _MODELS), None)
        if self.kind is None:
            raise Error(f"{name} is a {type(module).__name__}, wanted {', '.join(known(joint_text))}")
        self._attentions, patch, self.joint_text = _MODELS[self.kind]
        #: The self-attention modules, one a layer.
        self.attentions = self.attentions_now()
        self.patch = patch(module.config)
        self._parameters = list(inspect.signature(type(module).forward).parameters)[1:]

    def attentions_now(self):
        """The self-attention modules that the transformer has now: blocks may be replaced."""
        return self._attentions(self.module)

    def argument(self, name, args, kwargs, default=inspect.Parameter.empty):
        """The argument `name` of a call of the transformer's forward."""
        if name in kwargs:
            return kwargs[name]
        index = self._parameters.index(name) if name in self._parameters else len(args)
        if index < len(args):
            return args[index]
        if default is inspect.Parameter.empty:
            raise Error(f"{self.name} is called without {name}")
        return default

    def grid(self, hidden_states):
        """(frames, height, width) in tokens of latents [batch, channels, frames, height, width]."""
        return tuple(size // patch for size, patch in zip(hidden_states.shape[2:], self.patch))


def transformers_of(pipe, joint_text=True):
    """The pipeline's transformers: one, or two of Wan 2.2, which agree in their attention."""
    found = [VideoTransformer(name, getattr(pipe, name), joint_text)
             for name in NAMES if getattr(pipe, name, None) is not None]
    if not found:
        raise Error(f"{type(pipe).__name__} has no transformer")
    counts = {transformer.name: len(transformer.attentions) for transformer in found}
    if len(set(counts.values())) != 1:
        raise Error(f"{type(pipe).__name__}: its transformers differ in their layers: {counts}")
    return found
