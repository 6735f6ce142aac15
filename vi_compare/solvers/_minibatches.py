"""What a solver that needs all of the data says of a model that sees a part."""

from __future__ import annotations

from vi_compare.errors import InputError
from vi_compare.target import Target


def refuse_minibatches(solver: str, target: Target) -> None:
    """
    Raises:
        InputError: where log p is of a minibatch, and differs from call to call.
    """
    if target.subsampled:
        plates = ", ".join(map(repr, target.subsampled))
        raise InputError(
            f"{solver} needs all of the data, and the model sees a minibatch of {plates}; "
            f"leave the solver out for the default"
        )
