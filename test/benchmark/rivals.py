"""Other kernels for the same attention, as functions without arguments that return [batch, heads, tokens, dim]:
what compare.py times beside ours. `blocks` is a bool [heads, blocks, blocks], a block of 128 x 128."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

BLOCK = 128


def cudnn(q, k, v, scale):
    """cuDNN's dense attention, through PyTorch's SDPA; raises where cuDNN cannot run it."""
    def run():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)
    return run


def flash_attention_3(q, k, v, scale):
    """FlashAttention-3, dense: the package fa3-fwd of PyPI."""
    from fa3_fwd_interface import flash_attn_func

    q, k, v = (_token_major(tensor) for tensor in (q, k, v))

    def run():
        out = flash_attn_func(q, k, v, softmax_scale=scale)
        return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)
    return run


def flash_attention_4(q, k, v, scale, blocks):
    """FlashAttention-4's block-sparse path on the same blocks, all of them full: flash-attn-4 of PyPI."""
    from flash_attn.cute.block_sparsity import BlockSparseTensorsTorch
    from flash_attn.cute.interface import flash_attn_func

    counts, indices = _lists(blocks, q.shape[0])
    sparse = BlockSparseTensorsTorch(
        mask_block_cnt=torch.zeros_like(counts), mask_block_idx=torch.zeros_like(indices),
        full_block_cnt=counts, full_block_idx=indices, block_size=(BLOCK, BLOCK))
    q, k, v = (_token_major(tensor) for tensor in (q, k, v))

    def run():
        out = flash_attn_func(q, k, v, softmax_scale=scale, block_sparse_tensors=sparse)
        return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)
    return run


def flex(q, k, v, scale, blocks):
    """FlexAttention over the same blocks, compiled; every kept block is a full block to it."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    counts, indices = _lists(blocks, 1)
    tokens = q.shape[2]
    mask = BlockMask.from_kv_blocks(torch.zeros_like(counts), torch.zeros_like(indices), counts, indices,
                                    BLOCK_SIZE=BLOCK, seq_lengths=(tokens, tokens))
    run = torch.compile(flex_attention)
    return lambda: run(q, k, v, block_mask=mask, scale=scale)


def _lists(blocks, batch):
    """Of every row how many key blocks, and which, ascending: int32 [batch, heads, rows(, columns)]."""
    counts = blocks.sum(-1, dtype=torch.int32)
    indices = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True).to(torch.int32)
    return tuple(tensor.expand(batch, *tensor.shape).contiguous() for tensor in (counts, indices))


def _token_major(tensor):
    """[batch, tokens, heads, dim], which those kernels want; copied before anything is timed."""
    return tensor.transpose(1, 2).contiguous()
