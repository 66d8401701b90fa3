"""The provenance of a file that grew: of the session that wrote it last, and under `earlier` of those before it.

A file made in one go has no `earlier`, and neither has any that was written before there was such a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

EARLIER = "earlier"
MOST = 200
"""Sessions that are kept, the latest: a file that grows every night must stay below the length of a text."""


def before(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Sessions whose rows are there already, oldest first, each once.

    Parameters
    ----------
    texts : iterable of str
        The provenance, JSON, of the published file and of each part that an interrupted extraction left. What cannot
        be read is passed over: history is not worth a refusal to go on.
    """
    found: list[dict[str, Any]] = []
    for text in texts:
        for session in _sessions(text):
            if session and session not in found:
                found.append(session)
    return found


def text(now: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]]) -> str:
    """The provenance to write: canonical JSON of this session, with the earlier ones where there are any."""
    others = [session for session in earlier if session != now][-MOST:]
    whole = {**now, EARLIER: others} if others else dict(now)
    return json.dumps(whole, sort_keys=True, ensure_ascii=True)


def _sessions(text: str) -> list[dict[str, Any]]:
    try:
        whole = json.loads(text)
    except ValueError:
        return []
    if not isinstance(whole, dict):
        return []
    earlier = whole.pop(EARLIER, [])
    return [*(session for session in earlier if isinstance(session, dict)), whole]
