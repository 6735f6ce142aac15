"""How a study is run; light, so that the command line can read it at once."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vi_compare.errors import InputError
from vi_compare.values import check_whole

DRAWS = 20_000  # of each side, where log p is quick
REFERENCES = ("exact", "chains", "nuts", "none")


@dataclass(frozen=True)
class Effort:
    """How far short chains go to be a reference.

    Attributes:
        effective: independent draws that they are to be worth in every margin; once they have
            settled and are, they end.
        most: gradients of log p, all of them counted, after which they end in any case.
    """

    effective: int
    most: int


# A default fit of a Gaussian takes some 80,000 gradients, and a study has four fits by default.
# From 2,000 effective draws a width is known to 2 %: 20 % off is told from 10 % off.
EFFORTS = {
    "quick": Effort(1_000, 75_000),
    "normal": Effort(2_000, 300_000),
    "thorough": Effort(10_000, 3_000_000),
}


def matching(name: str | Path) -> list[Path]:
    """The file or folder of that name, or those of a pattern with ``*``, ``?`` or ``[...]``."""
    path = Path(name).expanduser()
    if path.exists():  # a name may have brackets that are no pattern
        return [path]
    return [Path(found) for found in glob.glob(str(path))]  # noqa: PTH207 - takes absolute ones


@dataclass(frozen=True)
class Settings:
    """How a study is run.

    Attributes:
        seed: every random number derives from it.
        draws: of each side, for every Monte Carlo number; None for `DRAWS`, or fewer where log p
            takes long.
        restarts: of every fit; None for what the study says.
        reference: "exact", "chains", "nuts", "none"; draws made elsewhere: a file, a folder, a
            pattern, or a list of these; what holds some: {site: (n, ...)}, a NumPyro MCMC, ArviZ's
            tree; or None for the best there is: exact draws where the script
            has them, else chains, else NUTS.
        effort: "quick", "normal" or "thorough": what chains may take to be the reference.
        keep_draws: keep every draw in fits.nc, however large.
        float32: compute in single precision; in double precision otherwise, whatever JAX is
            set to.
    """

    seed: int = 0
    draws: int | None = None
    restarts: int | None = None
    reference: str | Path | Sequence[str | Path] | Any = None
    effort: str = "normal"
    keep_draws: bool = False
    float32: bool = False

    def __post_init__(self):
        for name, least in (("seed", 0), ("draws", 1000), ("restarts", 1)):
            value = getattr(self, name)
            if value is not None or name == "seed":
                check_whole(value, name, least)
        if self.seed >= 2**64:
            raise InputError(f"seed must be below 2**64, got {self.seed}")
        if self.effort not in EFFORTS:
            raise InputError(f"effort must be {', '.join(EFFORTS)}, got {self.effort!r}")
        for name in self.files:
            if not name.strip() or not matching(name):
                raise InputError(
                    f"reference must be {', '.join(REFERENCES)} or draws made elsewhere (a file, "
                    f"a folder, a pattern); there is no file {name}"
                )

    @property
    def number_of_draws(self) -> int:
        """Of each side."""
        return DRAWS if self.draws is None else self.draws

    @property
    def source(self) -> str | None:
        """A word of `REFERENCES`; "file" for draws made elsewhere; None for the best there is.

        Raises:
            InputError: when a word stands among files.
        """
        if self.reference is None:
            return None
        if self.holds_draws:
            return "file"
        words = [name for name in self._named if name in REFERENCES]
        if words and len(self._named) > 1:
            raise InputError(f"reference is {words[0]!r} and more; give one word, or files alone")
        return str(words[0]) if words else "file"

    @property
    def files(self) -> list[str]:
        """What names draws made elsewhere."""
        return [str(name) for name in self._named] if self.source == "file" else []

    @property
    def holds_draws(self) -> bool:
        """Whether `reference` is an object that holds draws."""
        return not isinstance(self.reference, str | Path | Sequence | None)

    @property
    def _named(self) -> Sequence[str | Path]:
        """What `reference` names, one by itself as a list of one."""
        given = () if self.reference is None or self.holds_draws else self.reference
        return [given] if isinstance(given, str | Path) else given
