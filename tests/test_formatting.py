"""Numbers as text: a value and its error stand at one place, which somebody reads."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pytest

from vi_compare.formatting import pair, percent, plain, with_error
from vi_compare.run.draws import compact

SUPERSCRIPT = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-13405.70123, 0.0003, "−13 405.70 ± 0.01"),  # not −13 405.7 ± 0.0003
        (99.99306, 0.00015, "99.99 ± 0.01"),
        (2.99585, 0.00002, "2.996 ± 0.001"),
        (39956.6, 10993.0, "40 000 ± 11 000"),
        (-23456789.12, 0.03, "−23 456 789.12 ± 0.03"),  # an ELBO of many rows
        (3.2e8, 1.1e7, "(3.20 ± 0.11) × 10⁸"),
        (-2.2e-20, 1.4e-20, "(−2.2 ± 1.4) × 10⁻²⁰"),
        (0.0, 3e-16, "0 ± rounding"),
        (9.9996, 1e-6, "10.00 ± 0.01"),
        (0.25, 40.0, "0 ± 40"),
        (5e-324, 5e-324, "0"),
        (-13405.7012, 0.0, "−13 405.70"),
        (2.0, float("inf"), "2.000 ± inf"),
    ],
)
def test_a_value_and_its_error_stand_at_one_place(value, error, text):
    assert with_error(value, error) == text


def read(text: str) -> tuple[Decimal, int, int]:
    """A printed number: its value, the power of ten of its last place, its significant digits."""
    found = re.fullmatch(r"(−?)([\d ]+)(?:\.(\d+))?(?: × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text)
    assert found, text
    sign, whole, part, power = found.groups()
    part, whole = part or "", whole.replace(" ", "")
    exponent = int((power or "⁰").translate(SUPERSCRIPT))
    value = Decimal(f"{'-' if sign else ''}{whole}.{part or 0}").scaleb(exponent)
    digits = f"{whole}{part}".lstrip("0")
    if not part:
        digits = digits.rstrip("0")
    return value, exponent - len(part), len(digits)


def test_what_is_printed_is_true_and_short_for_all_sizes():
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        value = float(rng.normal() * 10.0 ** rng.uniform(-30, 11))
        error = float(abs(value) * 10.0 ** rng.uniform(-12, 3))
        number, spread = pair(value, error)
        (shown, place, digits), (width, same, figures) = read(number), read(spread)
        assert place == same, (value, error, number, spread)
        assert figures <= 2
        # The value is off by no more than the error that stands beside it.
        assert abs(shown - Decimal(value)) <= width
        # Four digits, or two decimals where these are finer; one more where it rounds up.
        assert digits <= 4 or place >= -2, (value, error, number)
        # The error is rounded to one digit or two (1.49 to 1 at worst), or up to one of the place.
        own = Decimal(error)
        assert width >= own * Decimal("0.66"), (value, error, spread)
        assert width <= own * Decimal("1.35") or width == Decimal(1).scaleb(place)


@pytest.mark.parametrize(
    ("share", "error", "text"),
    [
        (0.01, 0.09, "0 to 10 %"),  # not 1 ± 9 %: a share is not below nothing
        (0.99, 0.09, "90 to 100 %"),
        (0.9999306, 0.0000015, "99.99 ± 0.01 %"),
        (0.389, 0.004, "38.9 ± 0.4 %"),
        (0.0003, 0.0005, "0.03 ± 0.05 %"),
        (1.02, 0.05, "102 ± 5 %"),  # a basin's mass against the target's may be more
        (0.389, None, "38.9 %"),
    ],
)
def test_a_share_stays_between_nothing_and_the_whole(share, error, text):
    assert percent(share, error) == text


def test_numbers_without_an_error_have_three_digits():
    assert [plain(x) for x in (0.0, 1e-320, 123456.0, -0.99999, 4e-11, float("nan"))] == [
        "0", "0", "123 000", "−1.00", "4.00 × 10⁻¹¹", "nan",
    ]  # fmt: skip


def test_losses_beyond_single_precision_are_kept_without_a_warning():
    """Warnings are errors here: a cast that overflows would raise."""
    far = np.array([[1e40, 3.0, np.nan], [2.0, 1.0, np.inf]])
    kept = compact(far)
    np.testing.assert_array_equal(kept, far)
    assert compact(far[:, 1:]).dtype == np.float32
    assert compact(np.full((1, 2), np.nan)).dtype == np.float32
