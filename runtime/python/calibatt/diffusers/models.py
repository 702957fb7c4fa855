"""Which transformers of diffusers are known: their attention blocks in order, and their tokens."""

import hashlib
import inspect
import json

from ..abi import Error

# Class name -> (attention modules in the order of the layers, patch in (frames, height, width),
# whether text follows the video in the same attention).
_MODELS = {
    "WanTransformer3DModel": (
        lambda model: [block.attn1 for block in model.blocks],
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


class VideoTransformer:
    """One transformer of a pipeline; `name` is the pipeline's attribute ("transformer_2", say)."""

    def __init__(self, name, module):
        # What torch.compile(transformer) returns holds the transformer.
        module = getattr(module, "_orig_mod", module)
        self.name = name
        self.module = module
        self.kind = next((cls.__name__ for cls in type(module).__mro__ if cls.__name__ in _MODELS), None)
        if self.kind is None:
            raise Error(f"{name} is a {type(module).__name__}, wanted {', '.join(_MODELS)}")
        attentions, patch, self.joint_text = _MODELS[self.kind]
        #: The self-attention modules, one a layer.
        self.attentions = attentions(module)
        self.patch = patch(module.config)
        self._parameters = list(inspect.signature(type(module).forward).parameters)[1:]

    def argument(self, name, args, kwargs):
        """The argument `name` of a call of the transformer's forward."""
        return kwargs[name] if name in kwargs else args[self._parameters.index(name)]

    def grid(self, hidden_states):
        """(frames, height, width) in tokens of latents [batch, channels, frames, height, width]."""
        return tuple(size // patch for size, patch in zip(hidden_states.shape[2:], self.patch))

    def parts_of_fingerprint(self):
        """Configuration, and name, shape and a few values of every parameter, as bytes."""
        import torch

        config = {key: value for key, value in self.module.config.items() if not key.startswith("_")}
        yield json.dumps(config, sort_keys=True, default=str).encode()
        for name, parameter in sorted(self.module.named_parameters()):
            if parameter.is_meta:
                raise Error(f"{self.name}: {name} is not in memory, so that the model cannot be told from "
                            "others: do this before sequential offloading")
            yield f"{name}{list(parameter.shape)}".encode()
            values = parameter.detach().flatten()
            # In bf16, so that a model loaded in float32 is the same model.
            few = values[:: max(1, values.numel() // 16)][:16].to(torch.bfloat16).view(torch.int16)
            yield few.cpu().numpy().tobytes()


def transformers_of(pipe):
    """The pipeline's transformers: one, or two of Wan 2.2, which agree in their attention."""
    found = [VideoTransformer(name, getattr(pipe, name))
             for name in ("transformer", "transformer_2") if getattr(pipe, name, None) is not None]
    if not found:
        raise Error(f"{type(pipe).__name__} has no transformer")
    counts = {transformer.name: len(transformer.attentions) for transformer in found}
    if len(set(counts.values())) != 1:
        raise Error(f"{type(pipe).__name__}: its transformers differ in their layers: {counts}")
    return found


def model_id(transformers):
    """`<class>@<fingerprint>`: the same for equal configurations and weights, whatever the dtype and
    device. Reads a few values of every parameter, so it sees another checkpoint or a fused LoRA,
    and takes no time."""
    digest = hashlib.sha256()
    for transformer in transformers:
        for part in transformer.parts_of_fingerprint():
            digest.update(part)
            digest.update(b"\0")
    return f"{transformers[0].kind}@{digest.hexdigest()[:16]}"


def fingerprint(model):
    """What follows the `@` of a model id, or None."""
    return model.rpartition("@")[2] if "@" in model else None
