"""verify_webhook.py MESSAGE: verifies a webhook's message with the library `standardwebhooks`.

MESSAGE is JSON: `secret`, `other` (a secret that it is not signed with), `headers`, `body`.
Ends with 0 if the library accepts it, and refuses it altered, old, and under the other secret.
"""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

message = json.loads(sys.argv[1])
headers, body = message["headers"], message["body"]


def accepts(secret, headers, body):
    try:
        Webhook(secret).verify(body, headers)
        return True
    except WebhookVerificationError:
        return False


assert accepts(message["secret"], headers, body), "the message itself"
assert not accepts(message["secret"], headers, body.replace("order", "0rder", 1)), "altered"
assert not accepts(message["other"], headers, body), "another secret"
old = dict(headers, **{"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)})
assert not accepts(message["secret"], old, body), "old"
assert not accepts(message["secret"], dict(headers, **{"webhook-id": "another"}), body), "another id"
