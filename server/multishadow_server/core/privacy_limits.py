"""Which privacy terms may be asked for, and how they are told in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import re2

from multishadow_server.core.experiment import in_words
from multishadow_server.core.privacy import CustomPattern, Pattern, Payloads, PrivacyTerms
from multishadow_server.core.secret_patterns import compiled_regex
from multishadow_server.errors import InvalidInput

MOST_PATHS = 100
LONGEST_PATH = 256
MOST_CUSTOM = 20
LONGEST_REGEX = 500
# Instructions of a compiled regex. RE2 takes at most so many steps for each byte, whatever the text.
LARGEST_PROGRAM = 20_000
SHORTEST_KEEP = 60.0
LONGEST_KEEP = 365 * 86_400.0
SMALLEST_KEEP_BYTES = 1 << 20
LARGEST_KEEP_BYTES = 1 << 50

ROOTS = ("input", "output", "attributes", "session_id", "request_id")
_PATTERN_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


def patterns_named(names: Sequence[str]) -> tuple[Pattern, ...]:
    """The patterns of these names. Raises InvalidInput: which is none, and what there is."""
    for index, name in enumerate(names):
        if name not in list(Pattern):
            raise InvalidInput(
                f"privacy.redact.patterns[{index}]: there is no pattern {name!r}; allowed are "
                f"{', '.join(Pattern)}, and regexes of your own under `custom`"
            )
    return tuple(dict.fromkeys(map(Pattern, names)))


def payloads_named(name: str) -> Payloads:
    """The form of that name. Raises InvalidInput unless it is one."""
    if name not in list(Payloads):
        raise InvalidInput(f"privacy.payloads: {name!r} is none; allowed are {', '.join(Payloads)}")
    return Payloads(name)


def check(terms: PrivacyTerms) -> None:
    """Refuse terms that cannot be kept.

    Raises:
        InvalidInput: which entry is wrong, why, and what is allowed.
    """
    if terms.payloads is Payloads.FULL and terms.rules:
        raise InvalidInput(
            "privacy.redact: payloads: full stores everything as it is, so nothing would be redacted; say payloads: "
            "redacted, or leave redact out"
        )
    if terms.payloads is Payloads.REDACTED and not terms.rules:
        raise InvalidInput(
            "privacy.redact: payloads: redacted needs to be told what to hide: paths, patterns or custom"
        )
    if len(terms.paths) > MOST_PATHS:
        raise InvalidInput(f"privacy.redact.paths: {len(terms.paths)} are too many; allowed are {MOST_PATHS}")
    for index, path in enumerate(terms.paths):
        _check_path(f"privacy.redact.paths[{index}]", path)
    _check_custom(terms.custom)
    _check_keep(terms)


def check_with_labels(terms: PrivacyTerms, *, labels_keep: float | None) -> None:
    """Refuse terms under which labels could not be held against the answers.

    Args:
        terms: a model's.
        labels_keep: seconds that its answers are kept to be labelled; None when they are not.

    Raises:
        InvalidInput: which two settings contradict each other, and what to change.
    """
    if labels_keep is None:
        return
    if not terms.payloads.readable:
        raise InvalidInput(
            f"privacy.payloads: labels are held against answers that are kept, and payloads: {terms.payloads} keeps "
            "none that could be read; say labels: off, or payloads: redacted"
        )
    if terms.keep is not None and terms.keep < labels_keep:
        raise InvalidInput(
            f"privacy.keep: {in_words(terms.keep)} is shorter than answers are kept to be labelled "
            f"({in_words(labels_keep)}); shorten labels.keep, or keep longer"
        )


def in_short(terms: PrivacyTerms) -> str:
    """The terms in words, for lists and for what changed."""
    return "; ".join(_parts(terms))


def _parts(terms: PrivacyTerms) -> Iterator[str]:
    yield f"payloads {terms.payloads}"
    hidden = [*terms.paths, *terms.patterns, *(f"{each.name} ({each.regex})" for each in terms.custom)]
    if hidden:
        yield f"hiding {', '.join(hidden)}"
    if terms.keep is not None:
        yield f"kept for {in_words(terms.keep)}"
    if terms.keep_bytes is not None:
        yield f"at most {terms.keep_bytes:,} bytes"


def _check_path(where: str, path: str) -> None:
    steps = path.split(".")
    if path.startswith("$") or "[" in path or "/" in path:
        raise InvalidInput(
            f"{where}: {path[:80]!r} is in another notation; write keys with dots between them, and an index as a key: "
            "input.user.email, output.items.0.name, or output.items.*.name for all"
        )
    if steps[0] not in ROOTS:
        raise InvalidInput(
            f"{where}: {path[:80]!r} must begin with one of {', '.join(ROOTS)}, e.g. input.user.email or "
            "attributes.phone"
        )
    if steps[0] in {"session_id", "request_id"} and len(steps) > 1:
        raise InvalidInput(f"{where}: {path[:80]!r}: there is nothing below {steps[0]}")
    if len(path) > LONGEST_PATH or "" in steps or "\x00" in path:
        raise InvalidInput(
            f"{where}: {path[:80]!r} is no path; keys with one dot between them, at most {LONGEST_PATH} characters, "
            "are allowed"
        )
    if "**" in steps:
        raise InvalidInput(
            f"{where}: {path[:80]!r}: `*` is any key or index of one level, and what lies below a path is hidden "
            "with it; there is no `**`"
        )


def _check_custom(patterns: Sequence[CustomPattern]) -> None:
    if len(patterns) > MOST_CUSTOM:
        raise InvalidInput(f"privacy.redact.custom: {len(patterns)} are too many; allowed are {MOST_CUSTOM}")
    seen: set[str] = set(Pattern)
    for index, pattern in enumerate(patterns):
        where = f"privacy.redact.custom[{index}]"
        if not _PATTERN_NAME.fullmatch(pattern.name):
            raise InvalidInput(
                f"{where}.name: {pattern.name[:80]!r} is no name; allowed are a small letter and up to 30 small "
                "letters, digits, `-` and `_`: it stands in brackets where something was hidden"
            )
        if pattern.name in seen:
            raise InvalidInput(f"{where}.name: {pattern.name!r} is a pattern's name already")
        seen.add(pattern.name)
        _check_regex(f"{where} ({pattern.name}).regex", pattern.regex)


def _check_regex(where: str, regex: str) -> None:
    if not regex or len(regex) > LONGEST_REGEX:
        raise InvalidInput(f"{where}: it has {len(regex)} characters; allowed are 1 to {LONGEST_REGEX}")
    try:
        compiled = compiled_regex(regex)
    except re2.error as error:
        said = error.args[0] if error.args else error
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise InvalidInput(
            f"{where}: {regex[:80]!r} is no regex in RE2's syntax: {reason}. (Look-arounds and back-references are "
            "left out there, because with them a text can take for ever)"
        ) from error
    if compiled.programsize > LARGEST_PROGRAM:
        raise InvalidInput(
            f"{where}: {regex[:80]!r} is too expensive: {compiled.programsize:,} steps for each byte at worst; allowed "
            f"are {LARGEST_PROGRAM:,}. Repeat less, or use narrower classes"
        )
    if compiled.search("") is not None:
        raise InvalidInput(f"{where}: {regex[:80]!r} finds the empty text, which stands everywhere")


def _check_keep(terms: PrivacyTerms) -> None:
    if terms.keep is not None and not SHORTEST_KEEP <= terms.keep <= LONGEST_KEEP:
        raise InvalidInput(
            f"privacy.keep: {in_words(terms.keep)} is out of range; allowed are 1 min to 365 d. To store nothing, say "
            "payloads: none"
        )
    if terms.keep_bytes is not None and not SMALLEST_KEEP_BYTES <= terms.keep_bytes <= LARGEST_KEEP_BYTES:
        raise InvalidInput(
            f"privacy.keep_bytes: {terms.keep_bytes:,} is out of range; allowed are 1 MiB to 1 PiB. To store nothing, "
            "say payloads: none"
        )
