"""VGG16 at an eighth of its width: tests of the loop are about the loop, and take a tenth of the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from systolith.models import vgg

WIDE = vgg._PLAN
PLAN = tuple(item if isinstance(item, str) else item // 8 for item in WIDE)


@contextmanager
def narrow_vgg() -> Iterator[None]:
    """Networks built inside the block are narrow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, "_PLAN", PLAN)
        yield
