"""LASSO with far fewer retrainings than examples: every target's path from kink to kink, exactly.

Between kinks the optimal weights are linear in the penalty l. With A the examples of non-zero weight, s their
signs, r the residual and c = S^T r / m the correlations (S and y centred, G = S^T S / m),

    c_A = l s,    |c_j| <= l elsewhere,    -dw_A/dl = G_AA^-1 s,    dc/dl = S^T S_A G_AA^-1 s / m,

until some c_j reaches +-l (j enters A) or a weight reaches zero (it leaves): Osborne, Presnell and Turlach
2000; Efron, Hastie, Johnstone and Tibshirani 2004, section 3.1.

Why not the sweeps of `path` here: G has rank m - 1 or less, so that they creep. A never holds more examples
than that rank, and a path has about as many kinks. All targets step in company, each to its own next kink: a
step is one product (t, m) @ (m, n) and a rank-one change of every G_AA^-1, in float64. Nothing of n x n is
made. A target that does not certify (ties that cycle, near-dependent columns) is left to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np
import torch

from whence.methods.regression.path import Point

GAP = 1e-9  # duality gap over var(y)/2 up to which a solution counts as exact
SLACK = 1e-9  # relative: a correlation that nears its bound more slowly than this never gets there
DRIFT = 1e-9  # relative error of c_A at which G_AA^-1 is made afresh
MEMORY = 1 << 28  # bytes of G_AA^-1 and S_A of the targets in company

Visit = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def pays(m: int, n: int) -> bool:
    """Whether m retrainings of n examples are few enough to beat the sweeps.

    Time grows like m^2 n a target, that of sweeps like n^2: measured, sweeps take about 50 n/m^2 times as
    long."""
    return 2 * m <= n and m * m <= 32 * n


class Rows:
    """Retrainings of one design. Examples whose masks are copies or complements of each other form a class
    with one weight, which they share equally; examples that are always in or always out have none.

    columns (u + 1, m + v) float64 : centred masks of the classes, then a column of zeros; the last v rows are
        further ones, centred with the means of the m, for predictions
    outputs (t, m) float64 : centred
    """

    def __init__(
        self,
        masks: np.ndarray,
        outputs: np.ndarray,
        further: np.ndarray | None = None,
        device: torch.device | str = "cpu",
    ):
        self.m = len(masks)
        flip = masks[0]
        kinds, label = np.unique(np.packbits((masks ^ flip).T, axis=1), axis=0, return_inverse=True)
        varies = kinds.any(1)
        u = int(varies.sum())
        self.label = torch.as_tensor(
            np.where(varies, np.cumsum(varies) - 1, u)[label.reshape(-1)], device=device
        )
        size = torch.bincount(self.label, minlength=u + 1).clamp(min=1).double()
        self.share = torch.as_tensor(np.where(flip, -1.0, 1.0), device=device) / size[self.label]
        s = torch.as_tensor(masks.T, device=device).double()
        self.mask_mean = s.mean(1)
        if further is not None:
            s = torch.cat([s, torch.as_tensor(further.T, device=device).double()], 1)
        s = s.sub_(self.mask_mean[:, None]).mul_(self.share[:, None])
        self.columns = s.new_zeros(u + 1, s.shape[1]).index_add_(0, self.label, s)
        self.columns[u] = 0
        self.design = self.columns[:, : self.m].T.contiguous()  # (m, u + 1)
        self.diagonal = self.design.square().sum(0) / self.m
        y = torch.as_tensor(outputs, device=device).double()
        self.output_mean = y.mean(0)
        y = y - self.output_mean
        # An output that is the same in all rows has no variance but what rounding of its mean leaves.
        y[:, y.square().mean(0) <= (1e-12 * self.output_mean).square()] = 0
        self.outputs = y.T.contiguous()

    def chunks(self) -> list[torch.Tensor]:
        """Targets that step in company."""
        size = max(32, min(256, MEMORY // (8 * self.m * (self.m + self.columns.shape[1]))))
        return list(torch.arange(len(self.outputs), device=self.columns.device).split(size))

    def correlations(self, residual: torch.Tensor) -> torch.Tensor:
        return residual @ self.design / self.m


class _Company:
    """Targets on their way down, at penalty l (t,). Slots (t, k) hold A; an empty one has sign 0, the zero
    column, and zeros in the inverse."""

    STATE = ("targets", "l", "floor", "r", "c", "p", "index", "s", "w", "x", "inverse", "delta", "steps")

    def __init__(self, rows: Rows, targets: torch.Tensor, floor: torch.Tensor):
        self.rows, self.targets, self.floor = rows, targets, floor
        t, (u, length) = len(targets), rows.columns.shape
        self.r = rows.outputs[targets]
        self.c = rows.correlations(self.r)
        self.l = self.c.abs().amax(1)
        self.p = self.r.new_zeros(t, length - rows.m)
        self.index = targets.new_full((t, 0), u - 1)
        self.s = self.w = self.delta = self.r.new_zeros(t, 0)
        self.x, self.inverse = self.r.new_zeros(t, 0, length), self.r.new_zeros(t, 0, 0)
        self.steps = torch.zeros_like(targets)

    def keep(self, which: torch.Tensor) -> None:
        for name in self.STATE:
            setattr(self, name, getattr(self, name)[which])

    def grow(self, by: int = 16) -> None:
        pad = torch.nn.functional.pad
        self.index = pad(self.index, (0, by), value=len(self.rows.columns) - 1)
        self.s, self.w, self.delta = (pad(a, (0, by)) for a in (self.s, self.w, self.delta))
        self.x, self.inverse = pad(self.x, (0, 0, 0, by)), pad(self.inverse, (0, by, 0, by))

    def change(self, entering: torch.Tensor, j: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
        """Example j (t,) enters A where `entering` (t,), elsewhere the one in `slot` (t,) leaves it.

        Returns (t,) where j depends on A, and was left out."""
        rows, m = self.rows, self.rows.m
        if not bool((self.s == 0).any(1).all()):
            self.grow()
        t = torch.arange(len(j), device=j.device)
        slot = torch.where(entering, (self.s == 0).to(torch.uint8).argmax(1), slot)
        none = len(rows.columns) - 1
        j = torch.where(entering, j, none)
        column = rows.columns[j]
        b = torch.bmm(self.x[:, :, :m], column[:, :m, None])[:, :, 0] / m
        v = torch.bmm(self.inverse, b[:, :, None])[:, :, 0]
        left = rows.diagonal[j] - torch.linalg.vecdot(b, v)
        near = (entering & (left < 1e-3 * rows.diagonal[j])).nonzero()[:, 0]
        if len(near):  # what A leaves of j is small: a difference of squares would lose it
            x, part = self.x[near, :, :m], v[near]
            for _ in range(2):
                rest = column[near, :m] - torch.bmm(part[:, None], x)[:, 0]
                part = part + torch.bmm(self.inverse[near], torch.bmm(x, rest[:, :, None]) / m)[:, :, 0]
            v[near] = part
            left[near] = (column[near, :m] - torch.bmm(part[:, None], x)[:, 0]).square().sum(1) / m
        v[t, slot] = -1
        dependent = entering & (left <= 1e-12 * rows.diagonal[j])
        j = torch.where(dependent, none, j)
        column[dependent] = 0
        out = self.inverse[t, :, slot]
        v = torch.where(entering[:, None], v, out)
        scale = 1 / torch.where(entering, left.clamp(min=1e-300), -out[t, slot])
        scale = torch.where(dependent, 0.0, scale)
        self.inverse.baddbmm_((v * scale[:, None])[:, :, None], v[:, None])
        # The column of zeros has no sign: after a dependent example the slot is as empty as before.
        self.s[t, slot] = torch.where(entering, self.c[t, j].sign(), self.s[t, slot])
        self.delta += v * (scale * torch.linalg.vecdot(v, self.s))[:, None]
        gone = (~entering).nonzero()[:, 0]
        if len(gone):
            self.inverse[gone, slot[gone]] = 0
            self.inverse[gone, :, slot[gone]] = 0
            self.s[gone, slot[gone]] = 0
            self.delta[gone, slot[gone]] = 0
        self.index[t, slot], self.w[t, slot], self.x[t, slot] = j, 0.0, column
        return dependent

    def direction(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What a fall of l by one adds to the fit of all rows (t, m + v), and takes off c (t, u + 1)."""
        fitted = torch.bmm(self.delta[:, None], self.x)[:, 0]
        a = self.rows.correlations(fitted[:, : self.rows.m])
        return fitted, a

    def drifted(self, a: torch.Tensor, limit: float = DRIFT) -> torch.Tensor:
        """(t,) where c_A would no longer, or does no longer, equal l s."""
        rate = (a.gather(1, self.index) - self.s).abs().amax(1)
        level = (self.c.gather(1, self.index) - self.l[:, None] * self.s).abs().amax(1)
        return (rate > limit) | (level > limit * self.l) | ~torch.isfinite(rate)

    def refresh(self, who: torch.Tensor) -> None:
        """G_AA^-1, weights, residuals and correlations made afresh."""
        m, rows = self.rows.m, self.rows
        x, s = self.x[who], self.s[who]
        empty = torch.diag_embed((s == 0).double())
        # G_AA = R^T R from the columns themselves: their condition is not squared.
        _, right = torch.linalg.qr(torch.cat([x[:, :, :m].mT / m**0.5, empty], 1))
        back = torch.linalg.solve_triangular(right, torch.eye(s.shape[1]).to(s).expand_as(right), upper=True)
        self.inverse[who] = back @ back.mT - empty
        y = rows.outputs[self.targets[who]]
        q = torch.bmm(x[:, :, :m], y[:, :, None])[:, :, 0] / m
        both = torch.stack([q - self.l[who, None] * s, s], 2)
        self.w[who], self.delta[who] = (back @ (back.mT @ both)).unbind(2)
        fitted = torch.bmm(self.w[who][:, None], x)[:, 0]
        self.r[who], self.p[who] = y - fitted[:, :m], fitted[:, m:]
        self.c[who] = rows.correlations(self.r[who])


def follow(
    rows: Rows, targets: torch.Tensor, floor: torch.Tensor, visit: Visit | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Walk targets (t,) down to penalties `floor` (t,), or until `visit` says stop.

    `visit` sees each piece of the path, (targets, l, next l, p, -dp/dl) with p (t, v) the centred predictions
    of further rows at l, and returns (t,) bool: which targets walk on. Returns the weights of classes
    (t, u + 1) where each walk ended, and whether it ended in good order (t,)."""
    weight = rows.columns.new_zeros(len(targets), len(rows.columns))
    settled = torch.zeros_like(targets, dtype=torch.bool)
    walk = _Company(rows, targets, floor)
    place = torch.arange(len(targets), device=targets.device)
    top, j = walk.c.abs().max(1)
    entering = torch.ones_like(settled)
    slot = torch.zeros_like(j)
    going = top > floor
    settled[~going] = True
    if visit is not None:  # before the first kink all weights are zero
        going = going & visit(targets, top, top, walk.p, walk.p)
        settled[:] = True
    while bool(going.any()):
        if not bool(going.all()) and (int(going.sum()) < 0.8 * len(going)):
            walk.keep(going)
            entering, j, slot, place = entering[going], j[going], slot[going], place[going]
            going = going[going]
        # Who has ended stays in company for a while, and takes in the column of zeros: nothing.
        idle = len(rows.columns) - 1
        stuck = walk.change(entering | ~going, torch.where(going, j, idle), slot)
        fitted, a = walk.direction()
        off = (walk.drifted(a) & going).nonzero()[:, 0]
        if len(off):
            walk.refresh(off)
            fitted, a = walk.direction()
            stuck |= walk.drifted(a, 1e-6)
        walk.steps += 1
        stuck |= walk.steps > 100 + 12 * rows.m
        # The first bound to be met has the largest inverse distance; one that recedes has a negative one.
        bound = (walk.l * (1 + 1e-12))[:, None]
        rate = torch.maximum(
            ((1 - SLACK) - a).div_((bound - walk.c).clamp_(min=1e-300)),
            (a + (1 - SLACK)).div_((bound + walk.c).clamp_(min=1e-300)),
        ).scatter_(1, walk.index, -1.0)
        soonest, j = rate.max(1)
        shrinking = (-walk.delta * walk.s) / (walk.w * walk.s).clamp(min=1e-300)
        sooner, slot = shrinking.max(1)
        entering = soonest >= sooner
        step = 1 / torch.maximum(soonest, sooner)
        end = walk.l - walk.floor
        arrived = ~(step < end)
        step = torch.where(going & ~stuck, torch.where(arrived, end, step), 0.0)
        lower = torch.where(arrived, walk.floor, walk.l - step)
        on = going & ~stuck
        if visit is not None:
            on = on & visit(
                walk.targets, walk.l, torch.where(going, lower, walk.l), walk.p, fitted[:, rows.m :]
            )
        walk.l = torch.where(going & ~stuck, lower, walk.l)
        walk.w.addcmul_(step[:, None], walk.delta)
        walk.r.addcmul_(step[:, None], fitted[:, : rows.m], value=-1)
        walk.p.addcmul_(step[:, None], fitted[:, rows.m :])
        walk.c.addcmul_(step[:, None], a, value=-1)
        done = going & (arrived | ~on)
        if bool(done.any()):
            at = place[done]
            settled[at] = ~stuck[done]
            weight[at] = weight[at].scatter_add_(1, walk.index[done], walk.w[done])
            going = going & ~done
    return weight, settled


def _again(
    rows: Rows, part: torch.Tensor, floor: torch.Tensor, shift: float, visit: Visit | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`follow` with outputs moved by `shift` standard deviations, which breaks the ties that made it stop:
    0/1 columns give many where a few retrainings have outputs far from the rest."""
    moved = copy(rows)
    noise = torch.randn(rows.m, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = (noise - noise.mean()).to(rows.outputs.device)
    moved.outputs = rows.outputs + shift * rows.outputs.std(1, keepdim=True) * noise
    return follow(moved, part, floor, visit)


def choose(
    rows: Rows, outputs: np.ndarray, *, count: int, ratio: float, patience: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per target the one of `count` penalties, l_max down to `ratio` l_max, of lowest mean squared error on
    the further rows of `rows` with outputs (v, t); a path ends after `patience` penalties without a lower
    one. Returns penalty (t,), error (t,) and settled (t,) bool."""
    truth = (torch.as_tensor(outputs, device=rows.columns.device).double() - rows.output_mean).T
    top = torch.cat([rows.correlations(rows.outputs[part]).abs().amax(1) for part in rows.chunks()])
    top = torch.where(top > 0, top, 1.0)  # a constant target: all its weights are zero at any penalty
    grid = top[:, None] * ratio ** (torch.arange(count, device=top.device) / (count - 1))
    error = torch.full_like(top, torch.inf)
    best, at, waited = (torch.zeros_like(rows.label[:1]).repeat(len(top)) for _ in range(3))

    def visit(
        targets: torch.Tensor, now: torch.Tensor, lower: torch.Tensor, p: torch.Tensor, slope: torch.Tensor
    ) -> torch.Tensor:
        while True:
            k = at[targets]
            walking = (k < count) & (waited[targets] < patience)
            here = grid[targets, k.clamp(max=count - 1)]
            inside = (walking & (here >= lower)).nonzero()[:, 0]
            if len(inside) == 0:
                return walking
            who = targets[inside]
            predicted = p[inside] + (now[inside] - here[inside]).clamp(min=0)[:, None] * slope[inside]
            missed = (predicted - truth[who]).square().mean(1)
            better = missed < error[who]
            error[who] = torch.where(better, missed, error[who])
            best[who] = torch.where(better, k[inside], best[who])
            # Waiting starts with the first non-zero weight, which is at the second penalty.
            waited[who] = torch.where(better, 0, waited[who] + (k[inside] > 0))
            at[who] += 1

    settled = torch.cat([follow(rows, part, grid[part, -1], visit)[1] for part in rows.chunks()])
    left = (~settled).nonzero()[:, 0]
    if len(left):
        error[left], best[left], at[left], waited[left] = torch.inf, 0, 0, 0
        settled[left] = _again(rows, left, grid[left, -1], 1e-7, visit)[1]  # as float32 outputs are rounded
    return grid.gather(1, best[:, None])[:, 0], error, settled


def solve(rows: Rows, penalty: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One penalty a target (t,): weights of examples (t, n) and duality gaps over var(y)/2 (t,)."""
    weights, gaps = [], []
    for part in rows.chunks():
        weight, settled = follow(rows, part, penalty[part])
        left = (~settled).nonzero()[:, 0]
        if len(left):
            weight[left] = _again(rows, part[left], penalty[part[left]], 1e-10)[0]
        y, unit = rows.outputs[part], penalty[part, None]
        q = rows.correlations(y) / unit
        c = rows.correlations(y - weight @ rows.columns[:, : rows.m]) / unit
        variance = y.square().mean(1) / unit[:, 0].square()
        _, gap = Point(0, part, penalty[part], weight / unit, c, q, variance, 1.0, None).objective_and_gap()
        weights.append(weight[:, rows.label] * rows.share)
        gaps.append(gap / (variance / 2).clamp(min=1e-300))
    return torch.cat(weights), torch.cat(gaps)
