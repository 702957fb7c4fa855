#!/usr/bin/env python3
"""Runs the kernels of bringup.cu and compares every bit with what the layouts say.

usage: bringup.py FOLDER     with tma_64.cubin, ... of build-bringup; needs a Hopper GPU, torch
                             and cuda-bindings
Each test is a process of its own under a timeout: a hang or a fault ends that test only.
"""
import ctypes
import subprocess
import sys

TOKENS, HEADS = 420, 2
LAUNCH_PARAMS_BYTES = 640  # runtime/format/LaunchParams.h
SMEM = {64: 2048 + 5 * 16384, 128: 2048 + 5 * 32768}


def check(result):
    code, *values = result
    if int(code) != 0:
        raise RuntimeError(str(code))
    return values[0] if len(values) == 1 else values


def tensor_map(driver, tensor, box):
    _, heads, tokens, dim = tensor.shape
    batch_stride, head_stride, row_stride, _ = tensor.stride()
    u64, u32 = driver.cuuint64_t, driver.cuuint32_t
    encoded = check(driver.cuTensorMapEncodeTiled(
        driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 5, tensor.data_ptr(),
        [u64(x) for x in (64, tokens, dim // 64, heads, 1)],
        [u64(2 * x) for x in (row_stride, 64, head_stride, batch_stride)],
        [u32(x) for x in box], [u32(1)] * 5,
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE))
    return ctypes.string_at(encoded.getPtr(), 128)


def launch(driver, folder, name, dim, grid, q, k, v, o, out):
    import torch
    function = check(driver.cuModuleGetFunction(
        check(driver.cuModuleLoadData(open(f"{folder}/{name}_{dim}.cubin", "rb").read())), f"{name}_{dim}".encode()))
    check(driver.cuFuncSetAttribute(
        function, driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
        SMEM[dim]))
    tile = (64, 128, dim // 64, 1, 1)
    params = b"".join(tensor_map(driver, t, b) for t, b in
                      ((q, tile), (k, tile), (v, tile), (o, (64, 64, 1, 1, 1))))
    params += bytes(LAUNCH_PARAMS_BYTES - len(params))  # these kernels read the maps only
    buffer = ctypes.create_string_buffer(params, len(params))
    pointer = ctypes.c_uint64(out.data_ptr())
    arguments = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), ctypes.addressof(pointer))
    check(driver.cuLaunchKernel(function, *grid, 256, 1, 1, SMEM[dim], 0,
                                ctypes.addressof(arguments), 0))
    torch.cuda.synchronize()


def inputs(dim):
    import torch
    make = lambda: torch.randint(-4, 5, (1, TOKENS, HEADS, dim), device="cuda").to(
        torch.bfloat16).transpose(1, 2)
    return make(), make(), make(), torch.full(
        (1, TOKENS, HEADS, dim), float("nan"), device="cuda", dtype=torch.bfloat16).transpose(1, 2)


def test_tma(driver, folder, dim):
    import numpy
    import torch
    q, k, v, o = inputs(dim)
    tiles = (TOKENS + 127) // 128
    out = torch.full((HEADS, tiles, 128 * dim), -1, device="cuda", dtype=torch.int16)
    launch(driver, folder, "tma", dim, (tiles, HEADS, 1), q, k, v, o, out)
    raw = out.cpu().numpy()
    padded = numpy.zeros((HEADS, tiles * 128, dim), numpy.int16)
    padded[:, :TOKENS] = q[0].contiguous().view(torch.int16).cpu().numpy()
    row, column = numpy.meshgrid(numpy.arange(128), numpy.arange(dim), indexing="ij")
    byte = (column // 64 * 16384 + row * 128 + ((column % 64 // 8 ^ row & 7) << 4) + column % 8 * 2)
    for head in range(HEADS):
        for tile in range(tiles):
            wrong = raw[head, tile][byte // 2] != padded[head, tile * 128:tile * 128 + 128]
            assert not wrong.any(), f"load: head {head} tile {tile}: {wrong.sum()} elements differ"
    assert torch.equal(o, q), "store: o differs from q"


def test_mma(driver, folder, dim):
    import torch
    q, k, v, o = inputs(dim)
    out = torch.full((2, 4, 32, 64 + dim // 2), float("nan"), device="cuda")
    launch(driver, folder, "mma", dim, (1, 1, 1), q, k, v, o, out)
    # Element 4j + 2i + b of (warp w, lane l): row 16w + l/4 + 8i, column 8j + 2(l%4) + b.
    def unpack(fragments, columns):
        f = fragments.reshape(2, 4, 8, 4, columns // 8, 2, 2)
        return f.permute(0, 1, 5, 2, 4, 3, 6).reshape(128, columns)
    tile = lambda t: t[0, 0, :128].float()
    s, product = unpack(out[..., :64], 128), unpack(out[..., 64:], dim)
    wrong = s != tile(q) @ tile(k).T
    assert not wrong.any(), f"Q K^T: {int(wrong.sum())} of {wrong.numel()} elements differ"
    rows = (5 * torch.arange(128) + 3) % 128
    wrong = product != tile(v)[rows]
    assert not wrong.any(), f"P V: {int(wrong.sum())} of {wrong.numel()} elements differ"


TESTS = {"tma": test_tma, "mma": test_mma}


def main():
    if len(sys.argv) == 4:
        import torch
        from cuda.bindings import driver
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.zeros(1, device="cuda")
        TESTS[sys.argv[2]](driver, sys.argv[1], int(sys.argv[3]))
        return 0
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    failed = 0
    for name in TESTS:
        for dim in (64, 128):
            try:
                run = subprocess.run([sys.executable, __file__, sys.argv[1], name, str(dim)],
                                     capture_output=True, text=True, timeout=60)
                why = "" if run.returncode == 0 else (run.stderr.strip().splitlines() or ["?"])[-1]
            except subprocess.TimeoutExpired:
                why = "hangs"
            failed += bool(why)
            print(f"bring-up {name:4} head_dim {dim:3}  {'ok' if not why else 'FAILED: ' + why}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
