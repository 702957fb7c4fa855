"""What makes a transformer of diffusers leave attention out: caches, and guidance that skips layers."""

# Hooks of these change where weights are or how tensors are split, not what is computed.
_HARMLESS = ("group_offloading", "layerwise_casting", "context_parallel", "tensor_parallel",
             "text_kv_cache")


def skipping(module):
    """Names of what may leave attention of a transformer out, sorted: `FirstBlockCacheConfig`, say."""
    found = set()
    cache = getattr(module, "_cache_config", None)
    if cache is not None and type(cache).__module__.rpartition(".")[2] not in _HARMLESS:
        found.add(type(cache).__name__)
    for child in module.modules():
        hooks = getattr(getattr(child, "_diffusers_hook", None), "hooks", {})
        found.update(type(hook).__name__ for hook in hooks.values()
                     if type(hook).__module__.rpartition(".")[2] not in _HARMLESS)
    return sorted(found)
