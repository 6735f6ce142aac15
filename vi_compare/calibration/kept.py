"""The ranks so far, as they stand in the run folder, so that a calibration can go on."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vi_compare.comparison import writable
from vi_compare.comparison.writing import put_in_place


@dataclass(frozen=True, eq=False)
class Ranks:
    """What came of the data sets so far.

    Attributes:
        file: what it is called in the run folder.
        identity: of what was asked, as JSON: ranks of one identity belong together.
        probe: (k,) numbers that the model and its data determine: they tell a model that has
            changed where its name has not.
        ps: (n, M) ranks of the true values among the draws of the refits, as shares; NaN where
            there is none.
        converged, failed: (n,) of the refits.
    """

    file: ClassVar[str] = "calibration.npz"
    identity: str
    probe: np.ndarray
    ps: np.ndarray
    converged: np.ndarray
    failed: np.ndarray

    @classmethod
    def none(cls, identity: Mapping[str, Any], probe: np.ndarray, margins: int) -> Ranks:
        """No data set yet."""
        nothing = np.zeros(0, bool)
        text = json.dumps(identity, sort_keys=True)
        return cls(text, probe, np.zeros((0, margins)), nothing, nothing)

    def __len__(self) -> int:
        return len(self.ps)

    def and_more(self, ps: np.ndarray, converged: bool, failed: bool) -> Ranks:
        """With one more data set."""
        return Ranks(
            self.identity,
            self.probe,
            np.concatenate([self.ps, ps[None]]),
            np.append(self.converged, converged),
            np.append(self.failed, failed),
        )

    def first(self, n: int) -> Ranks:
        """Of the first n data sets."""
        return Ranks(self.identity, self.probe, self.ps[:n], self.converged[:n], self.failed[:n])

    def goes_on_from(self, other: Ranks) -> bool:
        """Whether `other`, kept earlier, is of the same question; but for rounding, which differs
        from one number of threads to another."""
        same = self.identity == other.identity and self.probe.shape == other.probe.shape
        return same and np.allclose(self.probe, other.probe, rtol=1e-6, equal_nan=True)

    def save(self, folder: Path) -> None:
        """Replace what is kept in the folder, whole or not at all.

        Raises:
            InputError: when the folder cannot be written.
        """
        with writable(folder) as scratch:
            np.savez_compressed(
                scratch / self.file,
                identity=np.array(self.identity),
                probe=self.probe,
                ps=self.ps,
                converged=self.converged,
                failed=self.failed,
            )
            put_in_place(scratch, folder)

    @classmethod
    def load(cls, folder: Path) -> Ranks | None:
        """What is kept there; None where nothing is, or nothing that can be read."""
        try:
            with np.load(folder / cls.file, allow_pickle=False) as kept:
                own = {name: kept[name] for name in ("probe", "ps", "converged", "failed")}
                return cls(str(kept["identity"]), **own)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
