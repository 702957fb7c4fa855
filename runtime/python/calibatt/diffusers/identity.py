"""The id of a model, `<class>@<hash>.<hash>`: what it covers, and how weights are read for it.

Covered are, of every transformer:
- its entries of the configuration. One that a later diffusers adds counts where it is not the default.
- name, shape and up to 64 values of every parameter. The first hash has the values as fp8 (e4m3) has
  them, the second as bf16; a model that is stored in fp8 has only the first.
- adapters that are active with a weight other than 0, each with its weight.

So models are equal whatever their device, offloading and compilation, with projections fused or not,
and stored in float32, bf16, float16 or fp8 (e4m3) of bf16 weights (values under 2^-16 count as 0). A
fused adapter is another model, and so is one quantised otherwise. A change that leaves all values
that are read as they were is not seen.
"""

import hashlib
import inspect
import json

import torch

from ..abi import Error

_VALUES = 64
_FP8 = torch.float8_e4m3fn

_WAN = dict(
    patch_size=[1, 2, 2], num_attention_heads=40, attention_head_dim=128, in_channels=16, out_channels=16,
    text_dim=4096, freq_dim=256, ffn_dim=13824, num_layers=40, cross_attn_norm=True,
    qk_norm="rms_norm_across_heads", eps=1e-6, image_dim=None, added_kv_proj_dim=None,
    rope_max_seq_len=1024, pos_embed_seq_len=None)
# Class -> entries of the configuration that always count, with what they were before they existed.
_CONFIGURATION = {
    "WanTransformer3DModel": _WAN,
    "WanVACETransformer3DModel": _WAN | dict(
        vace_layers=[0, 5, 10, 15, 20, 25, 30, 35], vace_in_channels=96),
    "MochiTransformer3DModel": dict(
        patch_size=2, num_attention_heads=24, attention_head_dim=128, num_layers=48,
        pooled_projection_dim=1536, in_channels=12, out_channels=None, qk_norm="rms_norm",
        text_embed_dim=4096, time_embed_dim=256, activation_fn="swiglu", max_sequence_length=256),
    "HunyuanVideoTransformer3DModel": dict(
        in_channels=16, out_channels=16, num_attention_heads=24, attention_head_dim=128, num_layers=20,
        num_single_layers=40, num_refiner_layers=2, mlp_ratio=4.0, patch_size=2, patch_size_t=1,
        qk_norm="rms_norm", guidance_embeds=True, text_embed_dim=4096, pooled_projection_dim=768,
        rope_theta=256.0, rope_axes_dim=[16, 56, 56], image_condition_type=None),
}
# Projections that fuse_qkv_projections() makes -> those that they stand for, in order.
_FUSED = {"to_qkv": ("to_q", "to_k", "to_v"), "to_kv": ("to_k", "to_v"),
          "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
          "to_added_kv": ("add_k_proj", "add_v_proj")}


def model_id(transformers):
    """The id of the model that a pipeline's transformers make. Reads weights from where offloading has
    them; raises Error naming a parameter that cannot be read."""
    coarse, fine, exact = hashlib.sha256(), hashlib.sha256(), True
    for transformer in transformers:
        head = json.dumps(configuration(transformer), sort_keys=True, default=str).encode()
        coarse.update(head)
        fine.update(head)
        for name, shape, values, dtype in sorted(_weights(transformer), key=lambda weight: weight[0]):
            exact = exact and dtype != _FP8
            for digest, form in ((coarse, _FP8), (fine, torch.bfloat16)):
                digest.update(f"\0{name}{list(shape)}\0".encode())
                digest.update(_bytes(values.to(form)))
    hashes = [coarse.hexdigest()[:16], *([fine.hexdigest()[:16]] if exact else [])]
    return f"{transformers[0].kind}@{'.'.join(hashes)}"


def same_model(one, other):
    """Whether two ids are of one model, as far as the coarser storage of them tells."""
    (kind, _, hashes), (other_kind, _, other_hashes) = one.rpartition("@"), other.rpartition("@")
    pairs = list(zip(hashes.split("."), other_hashes.split(".")))
    return kind == other_kind and all(mine == theirs for mine, theirs in pairs)


def configuration(transformer):
    """The entries of a transformer's configuration that count."""
    config = {key: value for key, value in transformer.module.config.items()
              if not key.startswith("_") and key != "quantization_config"}
    always = _CONFIGURATION[transformer.kind]
    defaults = {name: parameter.default for name, parameter in
                inspect.signature(type(transformer.module).__init__).parameters.items()}
    other = {key: value for key, value in config.items()
             if key not in always and (key not in defaults or value != defaults[key])}
    return always | {key: config[key] for key in always if key in config} | other


class Watch:
    """Notices that a model is no longer what it was when this was made. What offloading has out of memory
    is not looked at; it has to come back as it was."""

    def __init__(self, transformers):
        self._transformers = transformers
        self._values = self._read()
        self._seen = self._marks()

    def changed(self, thorough):
        """Whether it changed. Without `thorough` weights are read only where a parameter was replaced or
        written to, or an adapter changed."""
        marks = self._marks()
        if not thorough and marks == self._seen:
            return False
        now = self._read()
        changed = now.keys() != self._values.keys() or any(
            None not in (values, now[name]) and values != now[name]
            for name, values in self._values.items())
        self._seen = None if changed else marks
        return changed

    def _read(self):
        found = {}
        for transformer in self._transformers:
            for name, _, values, _ in _weights(transformer, local=True):
                key = f"{transformer.name}.{name}"
                found[key] = None if values is None else (found.get(key) or b"") + _bytes(values)
        return found

    def _marks(self):
        marks = []
        for transformer in self._transformers:
            for module in transformer.module.modules():
                marks += [(id(parameter), 0 if parameter.is_inference() else parameter._version)
                          for parameter in module._parameters.values() if parameter is not None]
                if hasattr(module, "base_layer"):
                    marks.append(repr(_adapters(module)))
        return marks


def has_adapters(transformer):
    """Whether an adapter of the transformer is active, so that a call's scale counts."""
    return any(_adapters(module) for module in transformer.module.modules()
               if hasattr(module, "base_layer"))


def _weights(transformer, local=False):
    """(name, shape, a few values in bf16 on the CPU, dtype that they are stored in) of every parameter, as
    if projections were not fused, blocks not compiled, and adapters of no effect not there. `local`
    has None for values that are not in memory, and reads what this process has of a tensor."""
    model = transformer.module
    on_disk = _files_of_groups(model)
    read, elsewhere = [], []
    for path, module in model.named_modules():
        adapters = _adapters(module) if hasattr(module, "base_layer") else {}
        for weight in sorted(adapters.values()):
            read.append((f"{_plain(path)}.adapter", (), torch.tensor([weight]).bfloat16(), None))
        if not module._parameters or _is_fused_away(model, path) or not _is_active(model, path):
            continue
        owner, _, last = _plain(path).rpartition(".")
        for key, parameter in module._parameters.items():
            if parameter is None:
                continue
            name = f"{path}.{key}" if path else key
            try:
                parts = [f"{owner}.{part}.{key}" for part in _FUSED.get(last, ())] or [_plain(name)]
                values = _values(transformer.name, name, module, key, parameter, on_disk, local)
                if values is None:
                    elsewhere += parts
                    continue
                split = values.detach().chunk(len(parts)) if len(parts) > 1 else [values]
                for part, rows in zip(parts, split):
                    read.append((part, rows.shape, _few(rows), parameter.dtype))
            except (RuntimeError, NotImplementedError, TypeError) as error:
                if isinstance(error, Error):
                    raise
                raise Error(f"{transformer.name}: {name}, a {type(parameter).__name__}, cannot be read "
                            f"({error}): the model cannot be told from others") from error
    # One wait for a GPU, not one a parameter.
    few = [values for _, _, values, _ in read]
    together = torch.cat(few).cpu() if len({values.device for values in few}) == 1 else None
    few = few if together is None else together.split([len(values) for values in few])
    return [(name, shape, values.cpu(), dtype) for (name, shape, _, dtype), values in zip(read, few)] + [
        (name, None, None, None) for name in elsewhere]


def _bytes(values):
    return (values.float() + 0.0).numpy().tobytes()  # -0 is 0: small values round to either


def _few(values):
    flat = values.detach().reshape(-1)
    # An odd stride, or all would be of one column.
    flat = flat[:: max(1, flat.numel() // _VALUES) | 1][:_VALUES].to(torch.bfloat16)
    # What float16 cannot hold.
    return torch.where(flat.abs() < 2.0**-16, torch.zeros_like(flat), flat)


def _values(owner, name, module, key, parameter, on_disk, local):
    """The tensor of a parameter, from where it is."""
    if parameter in on_disk:
        if local:
            return None
        from safetensors import safe_open

        path, entry = on_disk[parameter]
        with safe_open(path, "pt") as file:
            return file.get_tensor(entry)
    if parameter.is_meta:
        if local:
            return None
        for hook in _offload_hooks(module):
            if key in hook.weights_map:
                return hook.weights_map[key]
        raise Error(f"{owner}: {name} is not in memory, and offloading does not tell where it is: the "
                    "model cannot be told from others; do this before offloading")
    if hasattr(parameter, "full_tensor"):  # a DTensor; every process is here
        return parameter.detach().to_local() if local else parameter.detach().full_tensor()
    return parameter


def _offload_hooks(module):
    """Hooks of accelerate that have a module's weights."""
    hook = getattr(module, "_hf_hook", None)
    hooks = [hook, *getattr(hook, "hooks", ())]
    return [hook for hook in hooks if getattr(hook, "weights_map", None) is not None]


def _files_of_groups(model):
    """{parameter: (file, entry)} of what diffusers' group offloading has on disk."""
    found = {}
    for module in model.modules():
        hooks = getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
        group = getattr(hooks.get("group_offloading"), "group", None)
        if getattr(group, "_is_offloaded_to_disk", False):
            for tensor, entry in group.tensor_to_key.items():
                found[tensor] = group.safetensors_file_path, entry
    return found


def _plain(name):
    """A parameter's name without what compilation and adapters put into it."""
    words = [word for word in name.split(".") if word not in ("_orig_mod", "base_layer")]
    for index, word in enumerate(words):
        if word.startswith("lora_"):
            del words[index + 1:index + 2]  # the adapter's name
            break
    return ".".join(words)


def _adapters(module):
    """{adapter: weight} of a layer's adapters that have an effect and are not fused."""
    if getattr(module, "disable_adapters", False):
        return {}
    merged = getattr(module, "merged_adapters", ())
    scaling = getattr(module, "scaling", {})
    weights = {name: float(scaling.get(name, 1.0)) for name in getattr(module, "active_adapters", ())
               if name not in merged}
    return {name: weight for name, weight in weights.items() if weight != 0 and _has(module, name)}


def _has(module, adapter):
    return any(adapter in getattr(module, names, {})
               for names in getattr(module, "adapter_layer_names", ()))


def _is_active(model, path):
    """False inside of an adapter that has no effect."""
    words = path.split(".")
    for index, word in enumerate(words):
        if word.startswith("lora_"):
            layer = model.get_submodule(".".join(words[:index]))
            return len(words) > index + 1 and words[index + 1] in _adapters(layer)
    return True


def _is_fused_away(model, path):
    """Whether a projection is not used, because its attention uses the fused one."""
    words = _plain(path).split(".")
    real = path.split(".")
    for depth in range(len(real) - 1, -1, -1):
        attention = model.get_submodule(".".join(real[:depth]))
        if getattr(attention, "fused_projections", False):
            name = real[depth]
            return any(name in parts and hasattr(attention, fused) for fused, parts in _FUSED.items())
    return False
