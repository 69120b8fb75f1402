"""What a router counts of its live requests."""

from __future__ import annotations

from multishadow_server.core.live_counts import MOST_REVISIONS, LiveTally, Share


def share(revision: int, version: str = "A") -> Share:
    return Share("spam", version, revision)


def test_requests_are_told_apart_by_the_version_that_was_chosen_and_the_revision_that_chose() -> None:
    tally = LiveTally()
    tally.note(share(1, "base"), seconds=0.01)
    tally.note(share(2), seconds=0.01)
    tally.note(share(2), seconds=0.01, failed=True)
    tally.note(share(2), seconds=0.01, failed=True, covered=True)
    tally.note(share(2), seconds=1.0, failed=True, timed_out=True)
    counted = tally.changed()
    assert counted.keys() == {share(1, "base"), share(2)}
    new = counted[share(2)]
    assert (new.requests, new.failed, new.covered, new.answered) == (4, 3, 1, 1)
    # What failed at once does not look quick; what took too long does not look finite.
    assert sorted(new.latencies.values()) == [1, 1]
    assert new.latencies["inf"] == 1


def test_only_what_changed_is_given_and_what_could_not_be_saved_is_given_again() -> None:
    tally = LiveTally()
    tally.note(share(1), seconds=0.01)
    first = tally.changed()
    assert tally.changed() == {}
    tally.not_saved(first)
    tally.note(share(1), seconds=0.01)
    assert tally.changed()[share(1)].requests == 2


def test_a_revision_that_was_forgotten_is_never_begun_anew() -> None:
    tally = LiveTally()
    for revision in range(MOST_REVISIONS):
        tally.note(share(revision), seconds=0.01)
    tally.changed()
    tally.note(share(1), seconds=0.01)
    for revision in range(MOST_REVISIONS, MOST_REVISIONS + 3):
        tally.note(share(revision), seconds=0.01)
    tally.note(share(0), seconds=0.01)
    assert tally.late == 1
    counted = tally.changed()
    assert share(0) not in counted
    # It was not saved yet when it grew too old, so it is kept until it was.
    assert counted[share(1)].requests == 2
