"""What every page that must work offline, and be trusted, shares: its security policy, its data.

Belongs: the Content-Security-Policy of a page that holds its style and script, JSON for a script.
Does not: any page (``release.html``, ``review.page``).
Concept: nothing is fetched, and nothing runs but the one style and the one script that were there
when the page was written, each allowed by its hash alone.
"""

from __future__ import annotations

import base64
import hashlib
import json


def security_policy(style: str, script: str, *, files_beside: bool = False) -> str:
    """Nothing may be loaded from anywhere; one style and one script may act, each by its hash.

    ``files_beside``: images and scripts that lie where the page lies may be loaded, too. A script
    beside it cannot be allowed by its hash: browsers refuse to check one of ``file://``.
    """
    beside = " 'self'" if files_beside else ""
    images = " img-src 'self';" if files_beside else ""
    return (
        f"default-src 'none'; style-src 'sha256-{_digest(style)}';{images} "
        f"script-src 'sha256-{_digest(script)}'{beside}; base-uri 'none'; form-action 'none'"
    )


def script_json(value: object) -> str:
    """JSON that cannot end the script element or the line it stands in, whatever it holds."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
