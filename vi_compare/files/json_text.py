"""JSON in which every key stands once."""

from __future__ import annotations

import json
from typing import Any

from vi_compare.errors import InputError


def parse(content: bytes, what: str) -> Any:
    """The value of JSON in UTF-8, with or without a byte order mark.

    Raises:
        InputError: when a key stands twice, of which `json` would keep the last; `what`
            names the file.
        ValueError: when it is no JSON.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise InputError(f"{what} holds {twice!r} twice; keep one of them")
        return dict(pairs)

    return json.loads(content.decode("utf-8-sig"), object_pairs_hook=once)
