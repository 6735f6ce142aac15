"""Keys: every one of its own name, and the same however many are asked for."""

import jax
import numpy as np
import pytest

from vi_compare.randomness import MOST, key_for, split


def bits(keys):
    return np.stack([np.asarray(jax.random.key_data(key)) for key in keys])


@pytest.mark.parametrize("n", [1, 2, 5, MOST])
def test_keys_are_those_of_jax(n):
    key = jax.random.key(7)
    np.testing.assert_array_equal(bits(split(key, n)), bits(jax.random.split(key, n)))


def test_more_keys_than_one_program_makes_are_refused():
    with pytest.raises(ValueError, match="at most 16 keys"):
        split(jax.random.key(0), MOST + 1)


def test_every_label_and_seed_has_a_key_of_its_own():
    keys = [key_for(seed, label) for seed in (0, 1, 2**40) for label in ("a", "b", "a/draws")]
    assert len({tuple(row) for row in bits(keys)}) == len(keys)
    np.testing.assert_array_equal(bits([key_for(3, "a")]), bits([key_for(3, "a")]))
