"""Feature flags for application code: an OpenFeature provider over the flags that control serves.

    from openfeature import api
    from multishadow_client.openfeature import MultishadowProvider

    api.set_provider_and_wait(MultishadowProvider("127.0.0.1:50052"))

It needs the extra `openfeature` (`pip install 'multishadow[openfeature]'`).
"""

from __future__ import annotations

try:
    from multishadow_client._flag_provider import MultishadowProvider
    from multishadow_client._outcomes import OutcomeCounts
    from multishadow_client._tracking import Tracking
except ImportError as error:
    if not (error.name or "").startswith(("openfeature", "json_logic", "mmh3", "cbor2", "semver")):
        raise
    what = f"multishadow_client.openfeature needs {error.name}, which is not installed"
    raise ImportError(f"{what}: pip install 'multishadow[openfeature]'", name=error.name) from error

__all__ = ["MultishadowProvider", "OutcomeCounts", "Tracking"]
