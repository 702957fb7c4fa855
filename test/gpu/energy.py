#!/usr/bin/env python3
"""Block energies on a GPU: compared with a float64 reference, and timed beside cuDNN's dense attention.

usage: energy.py M.calibatt... [--verify-heads N] [--time] [--runs N] [--json FILE] [--markdown FILE]
Packages are those of `calibatt compile --calibration`. Without --time each is verified: energies,
covers, log-sum-exps, row maxima, outputs and repetition, plain and weighted, for plain and for peaked logits. With
--time all its heads are timed: cuDNN's dense forward (SDPA), our dense kernel, and our kernel with
energies, shuffled rounds, medians of CUDA events; extra memory is what PyTorch's allocator gave beyond the
tensors of the attention. Exits 1 where a check fails. Needs torch with CUDA and libcalibatt.so.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "runtime" / "python"), str(ROOT / "test" / "benchmark")]

import numpy
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import calibatt
from masks import BLOCK, gpu_state, inputs, versions, write_json
from rounds import shuffled, summary

EPSILON = 0.842  # late steps at 480p
ANCHORS = 5  # of the packages that energy.sh makes
CHUNK_ROWS = 4 * BLOCK


def reference(q, k, v, scale, weighted):
    """Energies, lse, row maxima and outputs of one head in float64, some rows at a time."""
    tokens = q.shape[0]
    blocks = -(-tokens // BLOCK)
    keys, values = k.double(), v.double()
    weights = values.norm(dim=-1) if weighted else torch.ones_like(values[:, 0])
    energies = torch.zeros(blocks, blocks, dtype=torch.float64, device=q.device)
    lse, top, out = [], [], []
    for first in range(0, tokens, CHUNK_ROWS):
        logits = q[first:first + CHUNK_ROWS].double() @ keys.T * scale
        lse.append(logits.logsumexp(-1))
        top.append(logits.amax(-1))
        p = (logits - lse[-1][:, None]).exp_()
        out.append(p @ values)
        p *= weights
        columns = torch.nn.functional.pad(p, (0, blocks * BLOCK - tokens))
        columns = columns.view(-1, blocks, BLOCK).sum(-1)
        for row in range(0, columns.shape[0], BLOCK):
            energies[(first + row) // BLOCK] = columns[row:row + BLOCK].mean(0)
    return energies, torch.cat(lse), torch.cat(top), torch.cat(out)


def minimum_covers(energies, epsilon):
    """The definition, float64, one row after another: bool [rows, blocks]."""
    rows = energies.reshape(-1, energies.shape[-1]).astype(numpy.float64)
    covers = numpy.zeros(rows.shape, bool)
    for row, cover in zip(rows, covers):
        order = numpy.lexsort((numpy.arange(len(row)), -row))
        prefix = numpy.cumsum(row[order])  # one after another, as on the device
        reached = numpy.nonzero(prefix >= epsilon * numpy.cumsum(row)[-1])[0]
        cover[order[:reached[0] + 1 if len(reached) else len(row)]] = True
    return covers.reshape(energies.shape)


def has_repetition(info):
    """Whether frames have rows beside the anchors."""
    return info["height"] > ANCHORS and info["max_text"] == 0


def repetition_score(q, k, info):
    """The median cosine of one head in float64, from whole attention rows, a frame at a time."""
    frames, height, width = (info[field] for field in ("frames", "height", "width"))
    anchors = [(2 * i + 1) * height // (2 * ANCHORS) for i in range(ANCHORS)]
    nearest = [min(anchors, key=lambda anchor, row=row: (abs(anchor - row), anchor))
               for row in range(height)]
    followers = [row for row in range(height) if row not in anchors]
    keys, cosines = k.double(), []
    for frame in q.view(frames, height * width, -1):
        p = torch.softmax(frame.double() @ keys.T * info["scale"], -1).view(height, -1)
        norms = p.norm(dim=-1)
        for row in followers:
            cross = (p[row] @ p[nearest[row]]) / (norms[row] * norms[nearest[row]])
            cosines.append(cross.item())
    return float(numpy.median(cosines))


def bits_of(cover, blocks):
    return numpy.unpackbits(cover.cpu().numpy(), axis=-1, bitorder="little")[..., :blocks] != 0


def verify(name, package, heads, report):
    """Whether everything of the first `heads` heads is right."""
    good = True
    info = package.info

    def check(what, value, limit):
        nonlocal good
        fine = value <= limit  # false for NaN
        good &= fine
        report.append({"package": name, "check": what, "value": value, "limit": limit, "ok": fine})
        print(f"{'ok    ' if fine else 'FAILED'} {name:24} {what:44} {value:.3g} (limit {limit:.3g})")

    for weighted in (False, True):
        for peak in (1, 6):
            batch = 2 if info["tokens"] < 4096 else 1
            q, k, v = inputs(package, batch, "cuda", 11 + peak, heads)
            q = q * peak
            case = f"{'weighted ' if weighted else ''}peak {peak}: "
            options = dict(epsilon=EPSILON, energies=True, row_max=True, lse=True, weighted=weighted)
            # What the workspace held before must not matter, nor what the outputs did.
            space = package.energy(q, k, v, **options).workspace.fill_(255)
            got = package.energy(q, k, v, workspace=space, **options)
            again = package.energy(q, k, v, workspace=space, **options)
            alone = package.energy(q, k, v, epsilon=EPSILON, weighted=weighted)
            worst = dict(energies=0.0, lse=0.0, top=0.0)
            error = norm = 0.0
            for b in range(batch):
                for h in range(heads):
                    energies, lse, top, out = reference(
                        q[b, h], k[b, h], v[b, h], info["scale"], weighted)
                    mean = energies.sum(-1).mean().item()
                    for key, difference in (
                            ("energies", (got.energies[b, h] - energies).abs().max().item() / mean),
                            ("lse", (got.lse[b, h] - lse).abs().max().item()),
                            ("top", (got.row_max[b, h] - top).abs().max().item())):
                        worst[key] = difference if not difference <= worst[key] else worst[key]
                    error += (got.out[b, h].double() - out).square().sum().item()
                    norm += out.square().sum().item()
            check(case + "energies, maximum error of a row's sum", worst["energies"], 2e-5)
            check(case + "lse, maximum error", worst["lse"], 1e-4 * peak)
            check(case + "row maxima, maximum error", worst["top"], 1e-4 * peak)
            check(case + "outputs, relative RMS error", (error / norm) ** 0.5, 6e-3)
            if not weighted:
                sums = (got.energies.double().sum(-1) - 1).abs().max().item()
                check(case + "sums of rows, maximum distance from 1", sums, 2e-5)
            covers = minimum_covers(got.energies.cpu().numpy(), EPSILON)
            wrong = (bits_of(got.cover, info["blocks"]) != covers).sum()
            check(case + "cover bits that are not the definition's", float(wrong), 0)
            same = all(torch.equal(getattr(got, field), getattr(again, field))
                       for field in ("out", "lse", "cover", "energies", "row_max"))
            same &= torch.equal(alone.cover, got.cover) and torch.equal(alone.out, got.out)
            if has_repetition(info) and not weighted:
                # Rows of a frame alike by threes, so that cosines are not near 0.
                row = torch.arange(info["tokens"], device="cuda") // info["width"]
                column = torch.arange(info["tokens"], device="cuda") % info["width"]
                alike = q[:, :, row // 3 * 3 * info["width"] + column] + 0.3 * q
                scores = package.energy(alike, k, v, repetition=True).repetition
                difference = max(
                    abs(scores[b, h].item() - repetition_score(alike[b, h], k[b, h], info))
                    for b in range(batch) for h in range(heads))
                print(f"       {name:24} scores {scores.flatten().tolist()}")
                check(case + "repetition, maximum error", difference, 5e-4)
            check(case + "two runs differ (0: bit by bit the same)", float(not same), 0)
    return good


def bench(name, package, runs):
    """Rows of the table of one package, all its heads."""
    info = package.info
    q, k, v = inputs(package, 1, "cuda", 1)
    out = torch.empty_like(q)

    def cudnn():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):  # raises where cuDNN cannot run it
            torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=info["scale"])

    spaces = {}

    def energy(label, **options):
        def run():
            made = package.energy(q, k, v, out=out, lse=True, workspace=spaces.get(label), **options)
            spaces[label] = made.workspace
        return run

    candidates = {
        "cuDNN dense": cudnn,
        "dense": lambda: package.attention(q, k, v, layer=0, step=0, out=out, lse=True),
        "dense + cover": energy("cover", epsilon=EPSILON),
        "dense + energies": energy("energies", energies=True),
        "dense + cover + energies": energy("both", epsilon=EPSILON, energies=True),
        "dense + weighted cover": energy("weighted", epsilon=EPSILON, weighted=True),
    }
    if has_repetition(info):
        candidates["dense + cover + repetition"] = energy(
            "repetition", epsilon=EPSILON, repetition=True)
    memory = {}
    for label, run in candidates.items():
        run()
        torch.cuda.synchronize()
        spaces.clear()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        memory[label] = torch.cuda.max_memory_allocated() - before
    before = gpu_state()
    times = {label: summary(each) for label, each in shuffled(candidates, runs, 0).items()}
    after = gpu_state()
    flop = 4 * info["tokens"] ** 2 * info["head_dim"] * info["heads"]
    return [{
        "package": name, "name": label, "tokens": info["tokens"], "heads": info["heads"],
        "runs": runs, "milliseconds": times[label], "tflops": flop / (times[label][0] * 1e9),
        "time_over_cudnn": times[label][0] / times["cuDNN dense"][0],
        "extra_bytes": memory[label], "gpu_before": before, "gpu_after": after,
    } for label in candidates]


def markdown(rows, state):
    lines = [f"{state.get('name', 'unknown GPU')}, driver {state.get('driver_version', '?')}, torch "
             f"{torch.__version__}, cuDNN {torch.backends.cudnn.version()}; medians of "
             f"{rows[0]['runs']} rounds in shuffled order."]
    place = None
    for row in rows:
        if row["package"] != place:
            place, after = row["package"], row["gpu_after"]
            lines += ["", f"{row['tokens']} tokens x {row['heads']} heads; after: SM clock "
                      f"{after.get('clocks.sm', '?')}, {after.get('power.draw', '?')}", "",
                      "| | ms (min..max) | TFLOP/s of the attention | time / cuDNN dense | memory |",
                      "|---|---|---|---|---|"]
        median, least, most = row["milliseconds"]
        lines.append(f"| {row['name']} | {median:.2f} ({least:.2f}..{most:.2f}) | {row['tflops']:.0f} "
                     f"| {row['time_over_cudnn']:.3f} | {row['extra_bytes'] / 2**20:.1f} MiB |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--verify-heads", type=int, default=2, help="heads that are verified")
    parser.add_argument("--time", action="store_true", help="time instead of verifying")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", help="write the results here too")
    parser.add_argument("--markdown", help="write the table of times here too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("energy.py: torch finds no CUDA device", file=sys.stderr)
        return 2
    good, report, rows = True, [], []
    for path in arguments.packages:
        name = Path(path).stem
        with calibatt.load(path) as package:
            if arguments.time:
                rows += bench(name, package, arguments.runs)
            else:
                heads = min(arguments.verify_heads, package.info["heads"])
                good &= verify(name, package, heads, report)
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
    if rows:
        table = markdown(rows, gpu_state())
        print(table)
        if arguments.markdown:
            Path(arguments.markdown).write_text(table + "\n")
    write_json(arguments.json, {"versions": versions(), "checks": report, "rows": rows})
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
