"""Stages as they are typed: 1,5,25,50,100."""

from __future__ import annotations

from multishadow_client.cli.exit_code import Mistake


def stages(typed: str) -> list[float]:
    """Read shares in percent, with or without their signs; none of nothing.

    Raises:
        Mistake: they are none; says what is. Whether they widen is control's to say.
    """
    try:
        return [float(part.strip().removesuffix("%")) for part in typed.split(",")] if typed else []
    except ValueError:
        raise Mistake(f"--stages: {typed!r} are no shares in percent; write them as 1,5,25,50,100") from None
