"""Sends one of each call with Segment's and RudderStack's clients for Python, packed and plain."""

import sys
from datetime import datetime, timezone

import rudderstack.analytics as rudder
import segment.analytics as segment

BASE = sys.argv[1]
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)


def fail(error, items):
    print(error, items, file=sys.stderr)
    sys.exit(1)


def send(client, user):
    def own(call):
        return {"message_id": f"{user}-{call}", "timestamp": WHEN}

    client.track(user, "Order Completed", {"total": 12.5}, **own("track"))
    client.identify(user, {"email": "a@example.com"}, **own("identify"))
    client.page(user, "Docs", "Home", {"url": "https://example.com/"}, **own("page"))
    client.screen(user, "Shop", "Cart", **own("screen"))
    client.group(user, "g1", {"name": "Acme"}, **own("group"))
    client.alias("a1", user, **own("alias"))
    client.shutdown()


segment.write_key, segment.host, segment.gzip, segment.on_error = "wk_py", BASE, False, fail
send(segment, "segment-py")
rudder.write_key, rudder.dataPlaneUrl, rudder.gzip, rudder.on_error = "wk_py", BASE, True, fail
send(rudder, "rudder-py")
