"""Which heads of a model this process has, where its weights are sharded."""

from ..errors import Error


def head_begin_of(transformers, heads):
    """The first of a model's `heads` that this process computes, as the DTensors of every to_q say; None
    where nothing is sharded. Raises Error where layers differ, or it cannot be told."""
    found = {_first_head(module, heads) for transformer in transformers
             for module in transformer.attentions}
    if len(found) != 1:
        raise Error(f"layers are sharded differently, their first heads are {sorted(map(str, found))}: say "
                    "head_begin")
    return found.pop()


def _first_head(module, heads):
    weight = getattr(getattr(module, "to_q", None), "weight", None)
    mesh = getattr(weight, "device_mesh", None)
    if mesh is None:
        return None
    shards = [(dim, placement) for dim, placement in enumerate(weight.placements)
              if not placement.is_replicate()]
    if not shards:
        return None
    (dim, placement), ranks = shards[0], mesh.size(shards[0][0])
    if len(shards) != 1 or not placement.is_shard(0) or heads % ranks:
        raise Error(f"to_q of {heads} heads is placed as {weight.placements} on {ranks} processes: which "
                    "heads are here cannot be told, say head_begin")
    return mesh.get_local_rank(dim) * (heads // ranks)
