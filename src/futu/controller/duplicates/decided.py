"""What people decided about images, applied to the groups that a new run finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from futu.catalogue.duplicate_records import FoundGroup, FoundMember, VerdictRecord
from futu.catalogue.duplicate_schema import DISMISSED, OPEN, RESOLVED
from futu.controller.duplicates.groups import shown


class Decided:
    """Decisions, by what they are about.

    A file that was renamed or moved is another image with the same content: it takes the place of
    one that is not there any more.

    Args:
        verdicts: all of them.
    """

    def __init__(self, verdicts: Sequence[VerdictRecord]) -> None:
        self._states = {verdict.id: verdict.state for verdict in verdicts}
        self._images: dict[tuple[int, bytes], list[int]] = {}
        self._gone: dict[bytes, Counter[int]] = {}
        for verdict in verdicts:
            for image_id, digest, there in verdict.members:
                if there:
                    self._images.setdefault((image_id, digest), []).append(verdict.id)
                else:
                    self._gone.setdefault(digest, Counter())[verdict.id] += 1

    def apply(self, members: Sequence[FoundMember]) -> FoundGroup:
        """A group in the state that it has after what was decided; the keeper comes first.

        Members that were dismissed are hidden when there is a new one, so that it alone is to be
        looked at beside the keeper.
        """
        about = self._about(members)
        dismissed = [{v for v in of if self._states[v] == DISMISSED} for of in about]
        free = shown(range(len(members)), dismissed.__getitem__)
        if sum(free) == 1:
            return FoundGroup(tuple(members), DISMISSED)
        resolved = [
            {v for v in of if self._states[v] == RESOLVED}
            for of, is_free in zip(about, free)
            if is_free
        ]
        state = RESOLVED if set.intersection(*resolved) else OPEN
        hidden = (replace(m, hidden=not is_free) for m, is_free in zip(members, free))
        return FoundGroup(tuple(hidden), state)

    def _about(self, members: Sequence[FoundMember]) -> list[set[int]]:
        """Of each member the verdicts that it is in."""
        spare = {m.content_hash: Counter(self._gone.get(m.content_hash)) for m in members}
        result = []
        for member in members:
            found = set(self._images.get((member.image_id, member.content_hash), ()))
            left = spare[member.content_hash]
            for verdict in [v for v, count in left.items() if count and v not in found]:
                left[verdict] -= 1
                found.add(verdict)
            result.append(found)
        return result
