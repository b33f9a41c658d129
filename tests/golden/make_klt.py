#!/usr/bin/env python3
"""Makes tests/golden/klt.safetensors: what klt's parameters and one of its records must be, by numpy in f64. Not run
by the tests.

    python3 -m venv venv && venv/bin/pip install numpy safetensors
    venv/bin/python tests/golden/make_klt.py

states [rows, cols]; covariance of the rows divided by their RMS, mean, variances (descending) and basis (a direction a
row, of either sign); rms, step and decoded [rows, cols] of a record of the same states.
"""
import os

import numpy as np
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS, COLS, STEP = 160, 24, np.float32(0.15)


def round_to_bf16(values):
    """To the nearest, ties to even; f64 values that are exact in bf16."""
    bits = np.float32(values).view(np.uint32)
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000
    return bits.view(np.float32).astype(np.float64)


def make_states(seed):
    """Directions of unlike variances, a mean, tokens of unlike sizes: one huge, one zero."""
    random = np.random.default_rng(seed)
    directions, _ = np.linalg.qr(random.normal(size=(COLS, COLS)))
    spread = np.sqrt(np.linspace(3, 0.1, COLS))
    states = random.normal(size=(ROWS, COLS)) * spread @ directions.T + random.normal(size=COLS)
    states *= np.exp(random.normal(size=(ROWS, 1)))
    states[3] *= 150
    states[7] = 0
    return np.float32(states)


def main():
    states = make_states(4)
    exact = states.astype(np.float64)
    rms = round_to_bf16(np.sqrt((exact ** 2).mean(1)))
    there = rms > 0
    normal = exact[there] / rms[there, None]
    mean = normal.mean(0)
    covariance = (normal - mean).T @ (normal - mean) / len(normal)
    variances, basis = np.linalg.eigh(covariance)
    variances, basis = variances[::-1], basis.T[::-1]
    # A direction is as well known as its variance is away from its neighbours'.
    assert (variances[:-1] - variances[1:] > 0.01).all()

    steps = (normal - mean) @ basis.T / np.float64(STEP)
    # No coefficient may lie so near the middle of two steps that f32 could round it the other way.
    assert (np.abs(np.abs(steps - np.floor(steps)) - 0.5) > 1e-4).all()
    decoded = np.zeros_like(exact)
    decoded[there] = (np.rint(steps) * np.float64(STEP) @ basis + mean) * rms[there, None]
    f32 = {'covariance': covariance, 'mean': mean, 'variances': variances, 'basis': basis, 'rms': rms, 'step': [STEP],
           'decoded': decoded}
    save_file({'states': states, **{name: np.ascontiguousarray(value, np.float32) for name, value in f32.items()}},
              f'{HERE}/klt.safetensors')


if __name__ == '__main__':
    main()
