"""Numbers as text: never more digits than the standard error allows."""

from __future__ import annotations

import math

LOG_2 = math.log(2.0)


def decimals(error: float) -> int:
    """Places that show one digit of `error`, or two where the first is a 1."""
    if not error > 0 or not math.isfinite(error):
        return 3
    exponent = math.floor(math.log10(error))
    return 1 - exponent if error / 10.0**exponent < 1.95 else -exponent


def fixed(value: float, places: int) -> str:
    """`value` to `places` decimal places, with a real minus sign and no minus zero."""
    places = max(0, places)
    text = f"{value:,.{places}f}".replace(",", " ")
    if float(text.replace(" ", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def power(exponent: int) -> str:
    """ " × 10⁻⁵"."""
    superscript = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return f" × 10{str(exponent).translate(superscript)}"


def plain(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits."""
    if value == 0 or not math.isfinite(value):
        return fixed(value, 0) if value == 0 else str(value)
    value = float(f"{value:.{digits - 1}e}")  # 9.6e-9 to one digit is 1e-8
    exponent = math.floor(math.log10(abs(value)))
    if not -5 < exponent < 7:
        return fixed(value / 10.0**exponent, digits - 1) + power(exponent)
    return fixed(value, digits - 1 - exponent)


def pair(value: float, error: float | None) -> tuple[str, str]:
    """Texts of a value and of its standard error, to the same place."""
    if not error:
        return plain(value), "" if error is None else "exact"
    if error < 1e-6 * abs(value):
        return plain(value, 6), plain(error, 1)  # more digits than anybody can use
    places = decimals(error)
    if places > 7 or abs(value) >= 1e7:
        exponent = math.floor(math.log10(max(abs(value), error)))
        scale = 10.0**exponent
        places = decimals(error / scale)
        number, spread = (fixed(x / scale, places) + power(exponent) for x in (value, error))
        return number, spread
    return fixed(value, places), fixed(error, places)


def with_error(value: float, error: float | None, unit: str = "") -> str:
    """ "2.69 ± 0.03 nats"; without ± where there is no error, or the value is exact."""
    number, spread = pair(value, error)
    text = f"{number} ± {spread}" if spread and spread != "exact" else number
    return f"{text} {unit}".strip()


def percent(value: float, error: float | None = None) -> str:
    """ "38.9 ± 0.4 %"."""
    if error is None:
        return f"{fixed(100 * value, 1)} %"
    return f"{with_error(100 * value, 100 * error)} %"


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
