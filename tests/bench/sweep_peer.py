"""sweep_peer.py: trains the heads of tests/bench/sweep.sh in PyTorch, as a user without offramp would: states come from
memory-mapped NumPy files (`cache export --format npy`), logits and loss are PyTorch's own, the optimizer is AdamW.

    python3 sweep_peer.py FOLDER STEPS SEQUENCES < TRIALS

FOLDER holds a folder of NumPy files for each tap, and output.npy, the output weight. A line of TRIALS is: TAP KIND LOSS. Each
trial is trained alone, as single runs are. Of a distilled one the full model's logits are computed from the final states in each
step. Prints a line for each trial, "TAP KIND LOSS SECONDS", without the first step; and last, on a line of its own that begins
with "shared", the seconds of all distilled trials in one process, for which the full model's probabilities of a batch are
computed once.

First values are random: a step takes the same time from wherever it begins.
"""
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

folder, steps, sequences = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
trials = [line.split() for line in sys.stdin if line.strip()]
torch.manual_seed(1)
torch.set_num_threads(len(__import__('os').sched_getaffinity(0)))

output = torch.from_numpy(np.load(f'{folder}/output.npy').astype(np.float32))
hidden = output.shape[1]
taps = {tap: np.load(f'{folder}/{tap}/states.npy', mmap_mode='r') for tap in {t for t, _, _ in trials} | {'final'}}
tokens = np.load(f'{folder}/final/tokens.npy')
order = np.random.default_rng(1).permutation(np.flatnonzero(np.load(f'{folder}/final/split.npy') == 0))


def rms(x, scale):
    return F.rms_norm(x, (hidden,), scale, 1e-5)


def batch(tap, step):
    """[M, H] states of a step's sequences."""
    places = np.arange(step * sequences, (step + 1) * sequences) % len(order)
    return torch.from_numpy(np.concatenate([taps[tap][order[p]] for p in places]).astype(np.float32))


def labels(step):
    places = np.arange(step * sequences, (step + 1) * sequences) % len(order)
    return torch.from_numpy(np.concatenate([tokens[order[p], 1:] for p in places]).astype(np.int64))


def teacher(step):
    with torch.no_grad():
        return F.softmax(rms(batch('final', step), torch.ones(hidden)) @ output.T, -1)


class Head:
    def __init__(self, tap, kind, loss):
        def random(*shape):
            return (torch.randn(*shape) / shape[-1] ** .5).requires_grad_(True)
        self.tap, self.kind, self.loss, self.norm = tap, kind, loss, torch.ones(hidden, requires_grad=True)
        self.parameters = {'norm': self.norm}
        if kind == 'affine':
            self.parameters |= {'a': random(hidden, hidden), 'b': torch.zeros(hidden, requires_grad=True)}
        if kind == 'mlp':
            inner = int(hidden * 8 / 3)
            self.before = torch.ones(hidden)
            self.parameters |= {'gate': random(inner, hidden), 'up': random(inner, hidden), 'down': random(hidden, inner)}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=1e-3, betas=(.9, .95), eps=1e-5, weight_decay=0)

    def step(self, step, q=None):
        p, x = self.parameters, batch(self.tap, step)
        if self.kind == 'affine':
            x = x @ p['a'].T + p['b']
        if self.kind == 'mlp':
            h = rms(x, self.before)
            x = x + (F.silu(h @ p['gate'].T) * (h @ p['up'].T)) @ p['down'].T
        logits = rms(x, self.norm) @ output.T
        if self.loss == 'cross-entropy':
            loss = F.cross_entropy(logits, labels(step))
        else:  # of probabilities: PyTorch's own
            loss = F.cross_entropy(logits, teacher(step) if q is None else q)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(p.values()), 1.)
        self.optimizer.step()


for tap, kind, loss in trials:
    head = Head(tap, kind, loss)
    head.step(0)
    began = time.monotonic()
    for step in range(1, steps + 1):
        head.step(step)
    print(tap, kind, loss, f'{time.monotonic() - began:.3f}', flush=True)

heads = [Head(*trial) for trial in trials if trial[2] == 'distillation']
began = time.monotonic()
for step in range(1, steps + 1):
    q = teacher(step)
    for head in heads:
        head.step(step, q)
print('shared', f'{time.monotonic() - began:.3f}', flush=True)
