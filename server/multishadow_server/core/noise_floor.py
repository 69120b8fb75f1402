"""The live version against itself: how often two answers to one request differ although nothing changed.

The worker sends a small share of the captures to the live version once more, and compares as for a candidate. No flag
says so: flags are per version, and the live version's already says `live`. The share is the experiment's, and the draw
is that of the candidates' flags, so the copies are of requests that the candidates got too.
"""

from __future__ import annotations

from multishadow_server.core import targeting
from multishadow_server.core.capture import Capture
from multishadow_server.core.experiment import Epoch

NOISE = "A/A"
"""What counts call the second copy; no version can be named so."""


def is_sampled(capture: Capture, epoch: Epoch) -> bool:
    """Whether the live version gets this capture's request a second time."""
    if not epoch.noise_percent:
        return False
    drawn = targeting.shadow_draw(capture.model, session_id=capture.session_id, request_id=capture.request_id)
    return 100 * drawn < epoch.noise_percent
