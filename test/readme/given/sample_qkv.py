import numpy

# Of the sample's size: [batch, heads, tokens, head_dim].
q, k, v = numpy.random.default_rng().standard_normal((3, 1, 2, 420, 64), dtype=numpy.float32)
