"""Numbers as text: a value and its standard error, to one place.

The place is that of the error's first digit, or of its second where the first is a 1; but no
further than four significant digits of the value or two decimals, whichever go further. Beyond
them nobody reads a number: an error that is smaller still is rounded up to one of that place.
So 99.99306 ± 0.00015 is written 99.99 ± 0.01, and −13405.7012 ± 0.0003 is written
−13 405.70 ± 0.01: of two such numbers the difference matters, and 0.01 nats of it.
"""

from __future__ import annotations

import math

LOG_2 = math.log(2.0)
SIGNS = {"": "", "least": "≥ ", "most": "≤ "}


def decimals(error: float) -> int:
    """Places that show one digit of `error`, or two where the first is a 1; below zero for
    tens, hundreds, ..."""
    if not error > 0 or not math.isfinite(error):
        return 3
    exponent = math.floor(math.log10(error))
    return 1 - exponent if error / 10.0**exponent < 1.95 else -exponent


def _finest(value: float) -> int:
    """The last place of `value` that is read: four significant digits, or two decimals."""
    return max(2, 3 - math.floor(math.log10(float(f"{abs(value):.3e}"))))  # 9.9996 is 10.00


def fixed(value: float, places: int) -> str:
    """`value` to `places` decimal places (below zero: to tens, hundreds, ...), with a real
    minus sign and no minus zero."""
    if places < 0 and math.isfinite(value):
        value = float(round(value, places))
    text = f"{value:,.{max(0, places)}f}".replace(",", " ")
    if float(text.replace(" ", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def power(exponent: int) -> str:
    """ " × 10⁻⁵"."""
    superscript = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return f" × 10{str(exponent).translate(superscript)}"


def p_value(p: float, least: float = 1e-4) -> str:
    """In two digits, or that it is smaller than anybody would compare: "< 0.0001"."""
    return plain(p, 2) if p >= least else f"< {least:.4f}"


def p_equals(p: float, least: float = 1e-4) -> str:
    """The same in a sentence: "p = 0.27", "p < 0.0001"."""
    return f"p = {p_value(p, least)}" if p >= least else f"p {p_value(p, least)}"


def plain(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits."""
    if abs(value) < 1e-300:  # powers of ten end there
        return "0"
    if not math.isfinite(value):
        return str(value)
    value = float(f"{value:.{digits - 1}e}")  # 9.6e-9 to one digit is 1e-8
    exponent = math.floor(math.log10(abs(value)))
    if not -5 < exponent < 7:
        return fixed(value / 10.0**exponent, digits - 1) + power(exponent)
    return fixed(value, digits - 1 - exponent)


def pair(value: float, error: float | None) -> tuple[str, str]:
    """Texts of a value and of its standard error, to the same place; of the error "" where it
    is not known and "exact" where it is zero."""
    number, spread, exponent = _parts(value, error)
    scale = "" if exponent is None else power(exponent)
    return number + scale, spread + scale if spread and spread != "exact" else spread


def with_error(value: float, error: float | None, unit: str = "", bound: str = "") -> str:
    """ "2.69 ± 0.03 nats"; without ± where there is no error, or the value is exact; with ≥ or ≤
    where it is a `bound`, as an `Estimate` has it."""
    number, spread, exponent = _parts(value, error)
    text = f"{number} ± {spread}" if spread and spread != "exact" else number
    if exponent is not None:
        text = f"({text}){power(exponent)}"
    return f"{SIGNS[bound]}{text} {unit}".strip()


def _parts(value: float, error: float | None) -> tuple[str, str, int | None]:
    """A value, its error, and the power of ten that both are to be multiplied by, if any."""
    if error is None:
        return plain(value), "", None
    size = max(abs(value), error)
    if not error or size < 1e-300:
        return _exact(value), "exact", None
    if not math.isfinite(size):
        return fixed(value, 3), fixed(error, 3), None
    if value == 0 and error < 1e-9:  # what floating point leaves of a difference that is none
        return "0", "rounding", None
    exponent = math.floor(math.log10(size))
    if -5 < exponent < 7 or (7 <= exponent < 12 and decimals(error) >= 0):
        return *_to_one_place(value, error), None
    return *_to_one_place(value / 10.0**exponent, error / 10.0**exponent), exponent


def _to_one_place(value: float, error: float) -> tuple[str, str]:
    places = min(decimals(error), _finest(max(abs(value), error)))
    return fixed(value, places), fixed(max(error, 10.0**-places), places)


def _exact(value: float) -> str:
    """A value without an error: no digit before the point is lost."""
    return plain(value) if abs(value) < 100 or abs(value) >= 1e12 else fixed(value, 2)


def percent(value: float, error: float | None = None, bound: str = "") -> str:
    """A share as "38.9 ± 0.4 %", with its `bound` as in `with_error`; as "0 to 10 %" where what
    the error allows would go beyond nothing or the whole by as much as half a per cent."""
    if error is None:
        return f"{SIGNS[bound]}{fixed(100 * value, 1)} %"
    low, high = value - error, value + error
    if low < -0.005 and value >= 0:
        return f"0 to {plain(100 * high, 2)} %"
    if high > 1.005 and value <= 1:
        return f"{plain(100 * low, 2)} to 100 %"
    return f"{with_error(100 * value, 100 * error, bound=bound)} %"


def count(n: int) -> str:
    """ "3 174 400": thin spaces between thousands."""
    return f"{n:,}".replace(",", " ")


def words(n: int) -> str:
    """Numbers up to ten in words, 0 as "no"."""
    small = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    return small[n] if 0 <= n < len(small) else str(n)


def listed(items: list[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def quoted(name: str) -> str:
    """A name as it can stand in a sentence: in quotes where it is several words."""
    return f"“{name}”" if " " in name else name


def seconds(value: float) -> str:
    return fixed(value, 2 if value < 1 else 1)


def minus(text: str) -> str:
    """The same text with real minus signs."""
    return text.replace("-", "−")
