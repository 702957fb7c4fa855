"""What calibration must find, from the full attention matrix in float64.

Q and K are made again from what a block's attention module is given: its projections and norms, and
a rotary embedding as a product of complex numbers. Nothing here uses the adapters under test.
"""

import numpy
import torch

BLOCK = 128


class AttentionInputs:
    """Records what the self-attention modules of a transformer are given, call by call."""

    def __init__(self, modules):
        self.modules = modules
        self.calls = [[] for _ in modules]
        self._hooks = [
            module.register_forward_pre_hook(
                lambda _, args, kwargs, calls=calls: calls.append((args, kwargs)), with_kwargs=True)
            for module, calls in zip(modules, self.calls)]

    def remove(self):
        for hook in self._hooks:
            hook.remove()

    def wan(self, layer, call):
        """(q, k) [heads, tokens, dim] in float64 of the only batch element."""
        module = self.modules[layer]
        (hidden, _, _, (cos, sin)), _ = self.calls[layer][call]
        turn = torch.complex(cos[0, :, 0, 0::2].double(), sin[0, :, 0, 1::2].double())
        q, k = (norm(linear(hidden))[0].unflatten(-1, (module.heads, -1)).transpose(0, 1)
                for linear, norm in ((module.to_q, module.norm_q), (module.to_k, module.norm_k)))
        return rotated(q, turn), rotated(k, turn)

    def mochi(self, layer, call, element):
        """The same of one batch element, with the tokens of its text at the end."""
        module = self.modules[layer]
        _, given = self.calls[layer][call]
        video = given["hidden_states"][element]
        text = given["encoder_hidden_states"][element][given["attention_mask"][element].bool()]
        cos, sin = given["image_rotary_emb"]
        turn = torch.complex(cos.double(), sin.double()).transpose(0, 1)  # one a head
        joined = []
        for linear, norm, text_linear, text_norm in (
                (module.to_q, module.norm_q, module.add_q_proj, module.norm_added_q),
                (module.to_k, module.norm_k, module.add_k_proj, module.norm_added_k)):
            v = norm(linear(video).unflatten(-1, (module.heads, -1))).transpose(0, 1)
            t = text_norm(text_linear(text).unflatten(-1, (module.heads, -1))).transpose(0, 1)
            joined.append(torch.cat([rotated(v, turn), t.double()], dim=1))
        return joined

    def hunyuan(self, layer, call):
        """The same of the only batch element. Single blocks have no projections of their own for
        text."""
        module = self.modules[layer]
        args, given = self.calls[layer][call]
        names = ("hidden_states", "encoder_hidden_states", "attention_mask", "image_rotary_emb")
        given = dict(zip(names, args)) | given
        video, text = given["hidden_states"][0], given["encoder_hidden_states"][0]
        text = text[:int(given["attention_mask"].sum()) - video.shape[0]]
        cos, sin = given["image_rotary_emb"]
        turn = torch.complex(cos[:, 0::2].double(), sin[:, 0::2].double())
        single = module.add_q_proj is None
        joined = []
        for linear, norm, text_linear, text_norm in (
                (module.to_q, module.norm_q, module.add_q_proj, module.norm_added_q),
                (module.to_k, module.norm_k, module.add_k_proj, module.norm_added_k)):
            if single:
                text_linear, text_norm = linear, norm
            v = norm(linear(video).unflatten(-1, (module.heads, -1))).transpose(0, 1)
            t = text_norm(text_linear(text).unflatten(-1, (module.heads, -1))).transpose(0, 1)
            joined.append(torch.cat([rotated(v, turn), t.double()], dim=1))
        return joined


def rotated(x, turn):
    """x [heads, tokens, dim] with its pairs of neighbours turned by complex numbers."""
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2)


def attention_matrix(q, k):
    """[heads, tokens, tokens] in float64."""
    return torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1).numpy()


def block_energies(matrix, blocks):
    """[heads, blocks, blocks] of attention matrices that may end before the last block."""
    heads, tokens, _ = matrix.shape
    energies = numpy.zeros((heads, blocks, blocks))
    for row in range(-(-tokens // BLOCK)):
        for column in range(-(-tokens // BLOCK)):
            rows = matrix[:, row * BLOCK:(row + 1) * BLOCK]
            part = rows[:, :, column * BLOCK:(column + 1) * BLOCK]
            energies[:, row, column] = part.sum(axis=(1, 2)) / rows.shape[1]
    return energies


def repetition(matrix, grid, anchors=5):
    """[heads]: median over rows of a frame that are no anchor of the cosine with the nearest."""
    frames, height, width = grid
    chosen = sorted({(2 * i + 1) * height // (2 * anchors) for i in range(anchors)})
    scores = []
    for head in matrix:
        rows = head[:frames * height * width].reshape(frames, height, -1)
        cosines = []
        for frame in rows:
            for y in set(range(height)) - set(chosen):
                anchor = min(chosen, key=lambda a: (abs(a - y), a))
                product = frame[y] @ frame[anchor]
                cosines.append(product / numpy.linalg.norm(frame[y]) / numpy.linalg.norm(frame[anchor]))
        scores.append(numpy.median(cosines))
    return numpy.array(scores)
