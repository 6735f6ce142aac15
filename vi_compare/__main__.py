"""``python -m vi_compare`` is ``vi-compare``."""

from vi_compare.cli import entry

entry()
