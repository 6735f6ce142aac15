"""How a study is run; light, so that the command line can read it at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vi_compare.errors import InputError

REFERENCES = ("exact", "nuts", "none")


@dataclass(frozen=True)
class Settings:
    """How a study is run.

    Attributes:
        seed: every random number derives from it.
        draws: of each side, for every Monte Carlo number.
        restarts: of every fit; None for what the study says.
        reference: "exact", "nuts", "none", a file of draws, or None for the best there is:
            exact draws where the script has them, else NUTS.
        keep_draws: keep every draw in fits.nc, however large.
        float32: compute in single precision; in double precision otherwise, whatever JAX is
            set to.
    """

    seed: int = 0
    draws: int = 20_000
    restarts: int | None = None
    reference: str | None = None
    keep_draws: bool = False
    float32: bool = False

    def __post_init__(self):
        for name, least in (("seed", 0), ("draws", 1000), ("restarts", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be at least {least}, got {value}")
        if self.seed >= 2**64:
            raise InputError(f"seed must be below 2**64, got {self.seed}")
        if self.reference not in (None, *REFERENCES) and not Path(self.reference).exists():
            raise InputError(
                f"reference must be {', '.join(REFERENCES)} or a file of draws; there is no file "
                f"{self.reference}"
            )
