"""How numbers are written: a true minus sign, thin digit groups, and no more digits than a reader can use."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

MINUS = "\u2212"


def is_number(value: Any) -> bool:
    """True for integers and floats, numpy's included; False for bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def count(value: float) -> str:
    """A whole number with groups of three: 12,000."""
    return f"{round(value):,}".replace("-", MINUS)


def fixed(value: float | None, digits: int = 2) -> str:
    """A fixed number of decimals: 0.34. Not finite is written as a dash; minus zero as zero."""
    if value is None or not math.isfinite(value):
        return "–"
    written = f"{value:.{digits}f}"
    return written.lstrip("-") if float(written) == 0 else written.replace("-", MINUS)


def signed(value: float, digits: int = 2) -> str:
    """Like `fixed`, with the plus sign shown: +0.34."""
    written = fixed(value, digits)
    return f"+{written}" if value > 0 and float(written.replace(MINUS, "-") or 0) != 0 else written


def digits_for(largest: float) -> int:
    """Decimals at which numbers up to `largest` can be told apart: 3 for 0.11, 2 for 0.9, 1 for 5."""
    if not math.isfinite(largest) or largest <= 0:
        return 2
    return min(max(1 - math.floor(math.log10(largest / 2)), 1), 6)


def significant(value: float | None, digits: int = 2) -> str:
    """Significant digits without an exponent where that is readable: 0.0031, 12.4, 5.2e−7."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    if -5 < power < 6:
        return fixed(value, max(digits - 1 - power, 0))
    return f"{value:.{digits - 1}e}".replace("-", MINUS)


def auto(value: Any) -> str:
    """Whole numbers with groups, others with three significant digits (at least two decimals below one
    hundred)."""
    if isinstance(value, Integral):
        return count(int(value))
    value = float(value)
    if math.isfinite(value) and value == int(value) and abs(value) >= 1000:
        return count(value)
    return fixed(value, 2) if math.isfinite(value) and 0.1 <= abs(value) < 1000 else significant(value, 3)


def interval(pair: tuple[float, float] | None, digits: int = 2) -> str:
    """[0.32, 0.36], or nothing where no interval is known."""
    if pair is None or not all(math.isfinite(end) for end in pair):
        return ""
    return f"[{fixed(pair[0], digits)}, {fixed(pair[1], digits)}]"


def estimate(value: float, pair: tuple[float, float] | None, digits: int = 2) -> str:
    """0.34 [0.32, 0.36]."""
    return f"{fixed(value, digits)} {interval(pair, digits)}".strip()


def percent(share: float, digits: int = 0) -> str:
    """A share of one as per cent; what would round to 0 % or 100 % without being it keeps its side: <1 %,
    >99 %."""
    if not math.isfinite(share):
        return "–"
    edge = 10.0**-digits
    if 0 < share * 100 < edge / 2:
        return f"<{edge:.{digits}f}\u00a0%"
    if 100 - edge / 2 < share * 100 < 100:
        return f">{100 - edge:.{digits}f}\u00a0%"
    return f"{share * 100:.{digits}f}\u00a0%".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds as a person would say them: 0.21 s, 48 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 1:
        return f"{significant(seconds, 2)} s"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """1 retraining, 12 retrainings."""
    return f"{count(number)} {noun if number == 1 else nouns or noun + 's'}"
