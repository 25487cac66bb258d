"""LASSO and elastic-net paths of all targets at once: block coordinate descent in Gram space.

Per target y the objective over weights w (in 0/1 units) and an unpenalised bias b is

    P(w) = 1/2m ||y - b - S w||^2 + l ( a ||w||_1 + (1 - a)/2 ||w||^2 ),        a = l1_ratio, 1 for LASSO.

Eliminating b centres S and y. With G = cov(S), q = cov(S, y) and residual correlations g = q - G w,

    P(w) = 1/2 (var(y) - w.(q + g)) + l (...),
    w is optimal  <=>  w = soft(w + s g, s l a) / (1 + s l (1 - a))   for any step s > 0.

Masks are not standardised: columns of a fixed-size design share the variance keep (1 - keep), so that would
only rename the penalty. Hence l_max = max_j |q_j| / a exactly: at l_max all weights are zero, just below it
one is not.

Why this algorithm: G is dense, shared by all targets and, for random masks, well conditioned (its eigenvalues
spread like (1 +- sqrt(n/m))^2), so a step for all targets is a matrix product at the machine's full rate and
few steps are needed. Coordinate descent one target at a time needs as many passes, each at the speed of
memory.

  1. Walk the penalties l_k = l_max ratio^(k/(K-1)) downwards, all targets in step, in units of the penalty
     (x = w/l, h = g/l), so that every target has the same threshold.
  2. Predict. Between kinks of the path w and g are linear in l: extrapolate both from the last two penalties.
  3. Sweep over blocks of coordinates: a proximal step d on the block, then h -= d G[block], adding the rows
  of
     the few coordinates that moved or, when many did, by a dense product.
  4. Sweep again the targets of which a further step would still lower P by more than tol P. Where
  sweeps
     are slow (ill-conditioned designs) jump along the last displacement first: g is linear, so the jump is
     free.
  5. The duality gap certifies each point.

State is float32. Dense products are bfloat16 where that is native: they act on displacements, so their error
shrinks as those do. Over a whole path it moves h by about 1e-2 of a threshold (float32: half of that), which
changes P in the eighth digit; the benchmark checks it. `solve`, which makes the weights that are returned,
multiplies in float32 and recomputes h in float64 between rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import embedding_bag, softshrink

from whence.methods.regression.moments import Moments

# Below this share of coordinates that moved, adding their rows of G is faster than a dense product
# (measured).
SPARSE_BELOW = {"cpu": 0.3, "cuda": 0.02}
TOLERANCE = 4e-7


def times(d: torch.Tensor, rows: torch.Tensor) -> torch.Tensor | None:
    """d (t, b) @ rows (b, n) by adding scaled rows, or None where d has too many non-zeros for that to
    pay."""
    counts = torch.count_nonzero(d, dim=1)
    total = int(counts.sum())
    if total == 0:
        return d.new_zeros(len(d), rows.shape[1])
    if total > SPARSE_BELOW.get(d.device.type, 0.02) * d.numel():
        return None
    where = d.nonzero(as_tuple=True)
    starts = counts.cumsum(0) - counts
    return embedding_bag(where[1], rows, starts, mode="sum", per_sample_weights=d[where])


def fast_bfloat16(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 natively, and so at twice the rate of float32 or more."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and supported is not None and bool(supported())


class Design:
    """What all targets share: G in blocks of rows, and a step size that is safe for every block."""

    def __init__(self, moments: Moments, block: int | None = None, bfloat16: bool | None = None):
        self.gram = gram = moments.gram.float()
        n = len(gram)
        block = block or min(max(moments.rows // 16, 32), 500)
        self.blocks = [(slice(s, min(s + block, n)), gram[s : s + block]) for s in range(0, n, block)]
        self.low: list[tuple[torch.Tensor, torch.Tensor]] = []
        if fast_bfloat16(gram.device) if bfloat16 is None else bfloat16:
            for cols, rows in self.blocks:
                diagonal = rows[:, cols].diagonal().clone()
                rest = rows.clone()
                rest[:, cols].fill_diagonal_(0)
                self.low.append((rest.bfloat16(), diagonal))
        # 1/variance is the Newton step of a lone coordinate; a proximal step s lowers P if s < 2/top
        # eigenvalue.
        variance = float(moments.gram.diagonal().max())
        top = max(_top_eigenvalue(rows[:, cols]) for cols, rows in self.blocks)
        self.step = min(1 / variance, 1.5 / top) if variance > 0 else 1.0

    def sweep(self, x: torch.Tensor, h: torch.Tensor, l1: float, ridge: torch.Tensor | None) -> None:
        """One pass over the blocks; updates x and h (t, n) in place."""
        for number, (cols, rows) in enumerate(self.blocks):
            before = x[:, cols]
            after = softshrink(torch.add(before, h[:, cols], alpha=self.step), self.step * l1)
            if ridge is not None:
                after /= 1 + self.step * ridge
            d = after - before
            x[:, cols] = after
            moved = times(d, rows)
            if moved is not None:
                h -= moved
            elif self.low:
                # The diagonal carries most of the product and stays float32; the rest is small, and wrong by
                # 2^-9.
                low, diagonal = self.low[number]
                h -= (d.bfloat16() @ low).float()
                h[:, cols].addcmul_(d, diagonal, value=-1)
            else:
                h.addmm_(d, rows, alpha=-1)

    def next_gain(
        self, x: torch.Tensor, h: torch.Tensor, l1: float, ridge: torch.Tensor | None
    ) -> torch.Tensor:
        """(t,) by how much a further proximal step would lower P, in units of the penalty squared."""
        after = softshrink(torch.add(x, h, alpha=self.step), self.step * l1)
        if ridge is not None:
            after /= 1 + self.step * ridge
        return torch.linalg.vector_norm(after.sub_(x), dim=1).square_() / (2 * self.step)


@dataclass
class Point:
    """All targets still walking, at their k-th penalty, in units of it: x = w/l, h = g/l, q = cross/l, y =
    var/l^2."""

    k: int
    targets: torch.Tensor  # (t,) which
    penalty: torch.Tensor  # (t,) float64
    x: torch.Tensor
    h: torch.Tensor
    q: torch.Tensor
    y: torch.Tensor
    l1: float
    ridge: torch.Tensor | None

    def weight(self) -> torch.Tensor:
        """(t, n) float64, in units of the output."""
        return self.x.double() * self.penalty[:, None]

    def objective_and_gap(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(t,) P and P - D >= P - min P, in units of the penalty squared.

        D is the best dual value on the ray of the residual r: D(s) = s y.r - s^2 |r|^2/2 with s |corr| <= l
        a. The ridge part is a LASSO on data with rows sqrt(l (1 - a)) I appended.
        """
        x, h = self.x, self.h
        l1 = self.l1 * torch.linalg.vector_norm(x, 1, dim=1)
        xq = torch.linalg.vecdot(x, self.q)
        rr = self.y - xq - torch.linalg.vecdot(x, h)
        if self.ridge is not None:
            rr = rr + self.ridge[:, 0] * x.square().sum(1)
            h = h - self.ridge * x
        yr = self.y - xq
        limit = self.l1 / torch.linalg.vector_norm(h, torch.inf, dim=1).clamp(min=self.l1)
        s = torch.minimum(yr / rr.clamp(min=1e-30), limit)
        primal = rr / 2 + l1
        dual = s * yr - s.square() * rr / 2
        return primal, (primal - dual).clamp(min=0)


def largest_penalty(moments: Moments, l1_ratio: float = 1.0) -> torch.Tensor:
    """(t,) the smallest penalty at which all weights are zero."""
    return moments.cross.abs().amax(1) / l1_ratio


def walk(
    design: Design,
    moments: Moments,
    visit: Callable[[Point, torch.Tensor], torch.Tensor | None],
    *,
    count: int = 50,
    ratio: float = 1e-2,
    l1_ratio: float = 1.0,
    tol: float = TOLERANCE,
    max_sweeps: int = 500,
) -> None:
    """Follow the path of every target.

    `visit` sees each point and the gaps (t,) relative to var/2; it may return (t,) bool: which targets walk
    on."""
    top = largest_penalty(moments, l1_ratio)
    top = torch.where(top > 0, top, 1.0)  # a constant target: all its weights are zero at any penalty
    rho = ratio ** (1 / max(count - 1, 1))
    targets = torch.arange(len(top), device=top.device)
    q, y = (moments.cross / top[:, None]).float(), (moments.variance / top.square()).float()
    x, h, x_last, h_last = torch.zeros_like(q), q.clone(), None, None
    objective = y / 2
    for k in range(count):
        if k > 0:
            q, y, objective = q / rho, y / rho**2, objective / rho**2
            x_new, h_new = _predict(x, x_last, rho), _predict(h, h_last, rho)
            x_last, h_last, x, h = x, h, x_new, h_new
        penalty = top * rho**k
        ridge = None if l1_ratio == 1 else ((1 - l1_ratio) * penalty[:, None]).float()
        descend(design, x, h, q, l1_ratio, ridge, tol * objective, max_sweeps)
        point = Point(k, targets, penalty, x, h, q, y, l1_ratio, ridge)
        objective, gap = point.objective_and_gap()
        go_on = visit(point, gap / (y / 2).clamp(min=1e-30))
        if go_on is not None and not bool(go_on.all()):
            if not bool(go_on.any()):
                return
            top, targets, q, y, x, h, objective = (a[go_on] for a in (top, targets, q, y, x, h, objective))
            if x_last is not None and h_last is not None:
                x_last, h_last = x_last[go_on], h_last[go_on]


def _predict(now: torch.Tensor, last: torch.Tensor | None, rho: float) -> torch.Tensor:
    """Linear extrapolation to the next penalty, from units of this one to units of the next."""
    if last is None:
        return now / rho
    return (now * ((1 + rho) / rho)).sub_(last, alpha=1 / rho)


def descend(
    design: Design,
    x: torch.Tensor,
    h: torch.Tensor,
    q: torch.Tensor,
    l1: float,
    ridge: torch.Tensor | None,
    limit: torch.Tensor,
    max_sweeps: int,
) -> None:
    """Sweep until no target's P would fall by more than tol y/2 in a further step. x and h change in
    place."""
    left = None  # rows still to sweep; None: all of them, without copying
    x_last = h_last = last = None
    for sweep in range(max_sweeps):
        xs, hs = (x, h) if left is None else (x[left], h[left])
        rs = ridge if ridge is None or left is None else ridge[left]
        if sweep >= 2:
            if x_last is not None and h_last is not None:
                _jump(xs, hs, x_last, h_last, q if left is None else q[left], l1, rs)
            x_last, h_last = xs.clone(), hs.clone()
        design.sweep(xs, hs, l1, rs)
        gain = design.next_gain(xs, hs, l1, rs)
        # Gains shrink by a factor c a sweep, so what remains is about gain / (1 - c): c is near one where the
        # design is ill-conditioned, and a small gain then does not mean that the end is near.
        left_over = 2 * gain if last is None else gain / (1 - gain / last.clamp(min=1e-30)).clamp(min=0.01)
        short = left_over > (limit if left is None else limit[left])
        last = gain
        if left is not None:
            x[left], h[left] = xs, hs
        remaining = int(short.sum())
        if remaining == 0:
            return
        # Copying rows out pays once a quarter of the targets are done.
        if remaining < 0.75 * len(short):
            left = short.nonzero()[:, 0] if left is None else left[short]
            last = last[short]
            if x_last is not None and h_last is not None:
                x_last, h_last = x_last[short], h_last[short]
    # Not reached within max_sweeps: the gap says so.


def _jump(
    x: torch.Tensor,
    h: torch.Tensor,
    x0: torch.Tensor,
    h0: torch.Tensor,
    q: torch.Tensor,
    l1: float,
    ridge: torch.Tensor | None,
) -> None:
    """Exact line search along the last displacement x - x0, for the targets whose objective it lowers; in
    place."""
    d, gd = x - x0, h0 - h
    slope = h - l1 * x.sign()
    curve = torch.linalg.vecdot(d, gd)
    if ridge is not None:
        slope = slope - ridge * x
        curve = curve + ridge[:, 0] * torch.linalg.vecdot(d, d)
    size = (torch.linalg.vecdot(d, slope) / curve.clamp(min=1e-30)).clamp(0, 100)[:, None]
    x1, h1 = x + size * d, h - size * gd

    def value(x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        smooth = -torch.linalg.vecdot(x.double(), (q + h).double()) / 2
        if ridge is not None:
            smooth = smooth + ridge[:, 0] * x.double().square().sum(1) / 2
        return smooth + l1 * x.abs().sum(1, dtype=torch.float64)

    better = (value(x1, h1) < value(x, h)).nonzero()[:, 0]
    x[better], h[better] = x1[better], h1[better]


def solve(
    design: Design,
    moments: Moments,
    penalty: torch.Tensor,
    *,
    l1_ratio: float = 1.0,
    start: torch.Tensor | None = None,
    tol: float = 1e-12,
    max_sweeps: int = 200,
    rounds: int = 3,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One penalty a target (t,): weights (t, n) float64 and relative duality gaps (t,), gap / (var(y)/2).

    Iterative refinement: each round recomputes the residual correlations in float64 and descends in float32
    from there."""
    unit = torch.where(penalty > 0, penalty, 1.0)
    cross, y = moments.cross / unit[:, None], (moments.variance / unit.square())
    ridge = None if l1_ratio == 1 else ((1 - l1_ratio) * unit[:, None])
    x = torch.zeros_like(cross) if start is None else start.to(cross) / unit[:, None]
    for _ in range(rounds):
        x32, h32 = x.float(), (cross - x.float().double() @ moments.gram).float()
        ridge32 = None if ridge is None else ridge.float()
        descend(design, x32, h32, cross.float(), l1_ratio, ridge32, (tol * y / 2).float(), max_sweeps)
        x = x32.double()
    h = cross - x @ moments.gram
    point = Point(0, torch.arange(len(x)), unit, x, h, cross, y, l1_ratio, ridge)
    _, gap = point.objective_and_gap()
    return point.weight(), gap / (y / 2).clamp(min=1e-300)


def _top_eigenvalue(block: torch.Tensor, iterations: int = 30) -> float:
    """Largest eigenvalue of a symmetric block by power iteration (a few per cent low at worst, which 1.5/top
    allows)."""
    v = torch.linspace(1, 2, len(block), dtype=block.dtype, device=block.device)
    v = v * torch.where(torch.arange(len(block), device=block.device) % 2 == 0, 1.0, -0.9)
    for _ in range(iterations):
        v = block @ v
        v = v / v.norm().clamp(min=1e-30)
    return max(float((block @ v).norm()), 1e-30)
