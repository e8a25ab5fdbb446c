"""Compiled loops of :mod:`~wsi_anomaly.autoencoder.few_channels`, convolutions of up to four.

A plane with a margin of one zero pixel lies in memory as one row of numbers (`pitch` = width + 2 a
line), so that a 3x3 convolution reads nine shifted copies of it and the loop runs over whole lines
at once, which the compiler turns into vector instructions. Four outputs are made together: each
number read serves 36 products. The two last numbers of a line are no pixels; nobody reads them.

Images are (N, C, H, W) float32; weights have been brought to (C_out = 4, C_in, 9), missing outputs
zero. One image is taken through all of a block before the next one, while it is in the cache.
"""

# What numba compiles is not annotated, and no line of it is seen by the coverage.
# mypy: allow-untyped-defs, allow-untyped-decorators

from __future__ import annotations

import numpy as np

from wsi_anomaly.core.compiling import compiled

WIDTH = 4
SAME, HALF, DOUBLE = 0, 1, 2

_LINES = 16  # of output made at a time: they stay in the nearest cache

# Sums may be reordered, as in every vectorised convolution; infinities and NaN must survive.
_compiled = compiled(fastmath={"reassoc", "contract", "nsz"})


@_compiled
def block_forward(x, w1, b1, w2, b2, how, hidden, out):  # pragma: no cover
    """Activation, resampling, convolution into `hidden`; activation, convolution into `out`.

    `how` is the activation's slope, the resampling, and whether the resampled `x` is added.
    """
    slope, resample, skip = how
    height, width = hidden.shape[2], hidden.shape[3]
    before, between = _padded(x.shape[1], height, width), _padded(w1.shape[0], height, width)
    for n in range(len(x)):
        _fill(x[n], before, slope, resample, width)
        _convolve(before, w1, b1, hidden[n])
        _fill(hidden[n], between, slope, SAME, width)
        _convolve(between, w2, b2, out[n])
        if skip:
            _add_resampled(x[n], out[n], resample)


@_compiled
def block_backward(  # pragma: no cover
    x, hidden, gradient, turned, how, to_x, to_first, to_second
):
    """Gradients of :func:`block_forward`; `turned` are both weights turned round.

    Those of the weights and biases of each convolution are added up over the images.
    """
    (t1, t2), (to_w1, to_b1), (to_w2, to_b2) = turned, to_first, to_second
    slope, resample, skip = how
    channels, height, width = hidden.shape[1:]
    before, between = _padded(x.shape[1], height, width), _padded(channels, height, width)
    after, inner = _padded(WIDTH, height, width), _padded(WIDTH, height, width)
    bias = np.zeros(WIDTH, np.float32)
    to_hidden = np.empty((channels, height, width), np.float32)
    to_before = np.empty((x.shape[1], height, width), np.float32)
    for n in range(len(x)):
        _fill(gradient[n], after, np.float32(1), SAME, width)
        _fill(hidden[n], between, slope, SAME, width)
        _add_products(between, after, to_w2, height, width)
        _add_sums(gradient[n], to_b2)
        _convolve(after, t2, bias, to_hidden)
        _through_activation(to_hidden, hidden[n], slope)
        _fill(to_hidden, inner, np.float32(1), SAME, width)
        _fill(x[n], before, slope, resample, width)
        _add_products(before, inner, to_w1, height, width)
        _add_sums(to_hidden, to_b1)
        _convolve(inner, t1, bias, to_before)
        to_x[n] = 0
        _add_adjoint(to_before, to_x[n], resample)
        _through_activation(to_x[n], x[n], slope)
        if skip:
            _add_adjoint(gradient[n], to_x[n], resample)


@_compiled
def single_forward(x, w, b, out):  # pragma: no cover
    """Convolution into `out`."""
    before = _padded(x.shape[1], x.shape[2], x.shape[3])
    for n in range(len(x)):
        _fill(x[n], before, np.float32(1), SAME, x.shape[3])
        _convolve(before, w, b, out[n])


@_compiled
def single_backward(x, gradient, t, wanted, to_x, to_w, to_b):  # pragma: no cover
    """Gradients of :func:`single_forward`; that of `x` only when `wanted`."""
    height, width = x.shape[2:]
    before, after = _padded(x.shape[1], height, width), _padded(WIDTH, height, width)
    bias = np.zeros(WIDTH, np.float32)
    for n in range(len(x)):
        _fill(gradient[n], after, np.float32(1), SAME, width)
        _fill(x[n], before, np.float32(1), SAME, width)
        _add_products(before, after, to_w, height, width)
        _add_sums(gradient[n], to_b)
        if wanted:
            _convolve(after, t, bias, to_x[n])


@_compiled
def _padded(channels, height, width):  # pragma: no cover
    """Planes of zeros with a margin of one pixel, and two numbers more that are read past it."""
    return np.zeros((channels, (height + 2) * (width + 2) + 2), np.float32)


@_compiled
def _fill(source, planes, slope, resample, width):  # pragma: no cover
    """Put the activated, resampled channels into the middle of their planes."""
    pitch = width + 2
    height = planes.shape[1] // pitch - 2
    for c in range(len(source)):
        for y in range(height):
            line = planes[c, (y + 1) * pitch + 1 : (y + 1) * pitch + 1 + width]
            if resample == SAME:
                row = source[c, y]
                for i in range(width):
                    line[i] = max(row[i], slope * row[i])
            elif resample == DOUBLE:
                row = source[c, y // 2]
                for i in range(width // 2):
                    v = max(row[i], slope * row[i])
                    line[2 * i] = v
                    line[2 * i + 1] = v
            else:
                high, low = source[c, 2 * y], source[c, 2 * y + 1]
                for i in range(width):
                    h0, h1, l0, l1 = high[2 * i], high[2 * i + 1], low[2 * i], low[2 * i + 1]
                    upper = max(h0, slope * h0) + max(h1, slope * h1)
                    lower = max(l0, slope * l0) + max(l1, slope * l1)
                    line[i] = np.float32(0.25) * (upper + lower)


@_compiled
def _add_resampled(source, out, resample):  # pragma: no cover
    """Add the resampled channels to `out`."""
    width = out.shape[2]
    for c in range(len(source)):
        for y in range(out.shape[1]):
            line = out[c, y]
            if resample == SAME:
                row = source[c, y]
                for i in range(width):
                    line[i] += row[i]
            elif resample == DOUBLE:
                row = source[c, y // 2]
                for i in range(width // 2):
                    line[2 * i] += row[i]
                    line[2 * i + 1] += row[i]
            else:
                high, low = source[c, 2 * y], source[c, 2 * y + 1]
                for i in range(width):
                    upper, lower = high[2 * i] + high[2 * i + 1], low[2 * i] + low[2 * i + 1]
                    line[i] += np.float32(0.25) * (upper + lower)


@_compiled
def _add_adjoint(gradient, to_source, resample):  # pragma: no cover
    """Add what :func:`_add_resampled` does to gradients, the other way."""
    width = gradient.shape[2]
    for c in range(len(to_source)):
        for y in range(gradient.shape[1]):
            line = gradient[c, y]
            if resample == SAME:
                row = to_source[c, y]
                for i in range(width):
                    row[i] += line[i]
            elif resample == DOUBLE:
                row = to_source[c, y // 2]
                for i in range(width // 2):
                    row[i] += line[2 * i] + line[2 * i + 1]
            else:
                high, low = to_source[c, 2 * y], to_source[c, 2 * y + 1]
                for i in range(width):
                    v = np.float32(0.25) * line[i]
                    high[2 * i] += v
                    high[2 * i + 1] += v
                    low[2 * i] += v
                    low[2 * i + 1] += v


@_compiled
def _through_activation(gradient, x, slope):  # pragma: no cover
    """Multiply by the activation's slope at `x`."""
    for c in range(len(gradient)):
        for y in range(gradient.shape[1]):
            line, row = gradient[c, y], x[c, y]
            for i in range(len(line)):
                line[i] *= np.float32(1) if row[i] > 0 else slope


@_compiled
def _add_sums(gradient, total):  # pragma: no cover
    """Add the sum over each channel: the gradient of the bias."""
    for c in range(len(gradient)):
        found = np.float32(0)
        for y in range(gradient.shape[1]):
            row = gradient[c, y]
            for i in range(len(row)):
                found += row[i]
        total[c] += found


@_compiled
def _convolve(planes, weights, bias, out):  # pragma: no cover
    """3x3 convolution of padded planes into (C_out, H, W)."""
    channels, height, width = out.shape
    pitch = width + 2
    made = np.empty((WIDTH, _LINES * pitch), np.float32)
    for start in range(0, height, _LINES):
        lines = min(_LINES, height - start)
        for k in range(WIDTH):
            line = made[k]
            for t in range(lines * pitch):
                line[t] = bias[k]
        for c in range(weights.shape[1]):  # further planes are empty, and have no weights
            _four(planes[c, start * pitch :], weights[:, c], made, lines * pitch - 2, pitch)
        for k in range(channels):
            for y in range(lines):
                line, row = made[k, y * pitch :], out[k, start + y]
                for i in range(width):
                    row[i] = line[i]


@_compiled
def _four(plane, w, out, count, pitch):  # pragma: no cover
    """Add one channel's part to four outputs.

    Weights are taken out of their array first: the compiler can't know that writing an output
    leaves them as they are.
    """
    a0, a1, a2, a3, a4, a5, a6, a7, a8 = _nine(w[0])
    b0, b1, b2, b3, b4, b5, b6, b7, b8 = _nine(w[1])
    c0, c1, c2, c3, c4, c5, c6, c7, c8 = _nine(w[2])
    d0, d1, d2, d3, d4, d5, d6, d7, d8 = _nine(w[3])
    out0, out1, out2, out3 = out[0], out[1], out[2], out[3]
    top, middle, bottom = plane, plane[pitch:], plane[2 * pitch :]
    for t in range(count):
        p0, p1, p2 = top[t], top[t + 1], top[t + 2]
        p3, p4, p5 = middle[t], middle[t + 1], middle[t + 2]
        p6, p7, p8 = bottom[t], bottom[t + 1], bottom[t + 2]
        out0[t] += (
            a0 * p0 + a1 * p1 + a2 * p2 + a3 * p3 + a4 * p4 + a5 * p5 + a6 * p6 + a7 * p7 + a8 * p8
        )
        out1[t] += (
            b0 * p0 + b1 * p1 + b2 * p2 + b3 * p3 + b4 * p4 + b5 * p5 + b6 * p6 + b7 * p7 + b8 * p8
        )
        out2[t] += (
            c0 * p0 + c1 * p1 + c2 * p2 + c3 * p3 + c4 * p4 + c5 * p5 + c6 * p6 + c7 * p7 + c8 * p8
        )
        out3[t] += (
            d0 * p0 + d1 * p1 + d2 * p2 + d3 * p3 + d4 * p4 + d5 * p5 + d6 * p6 + d7 * p7 + d8 * p8
        )


@_compiled
def _nine(w):  # pragma: no cover
    return w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8]


@_compiled
def _add_products(planes, gradient, to_weights, height, width):  # pragma: no cover
    """Add the gradient of the weights (4, C_in, 9); both arguments are padded planes."""
    pitch = width + 2
    count = height * pitch - 2
    # The gradient's margin is zero: positions that are no pixels add nothing.
    g0, g1 = gradient[0, pitch + 1 :], gradient[1, pitch + 1 :]
    g2, g3 = gradient[2, pitch + 1 :], gradient[3, pitch + 1 :]
    for c in range(len(planes)):
        for row in range(3):
            line = planes[c, row * pitch :]
            a0 = a1 = a2 = b0 = b1 = b2 = np.float32(0)
            c0 = c1 = c2 = d0 = d1 = d2 = np.float32(0)
            for t in range(count):
                p0, p1, p2 = line[t], line[t + 1], line[t + 2]
                v0, v1, v2, v3 = g0[t], g1[t], g2[t], g3[t]
                a0 += v0 * p0
                a1 += v0 * p1
                a2 += v0 * p2
                b0 += v1 * p0
                b1 += v1 * p1
                b2 += v1 * p2
                c0 += v2 * p0
                c1 += v2 * p1
                c2 += v2 * p2
                d0 += v3 * p0
                d1 += v3 * p1
                d2 += v3 * p2
            k = 3 * row
            found = ((a0, a1, a2), (b0, b1, b2), (c0, c1, c2), (d0, d1, d2))
            for o in range(WIDTH):
                for i in range(3):
                    to_weights[o, c, k + i] += found[o][i]
