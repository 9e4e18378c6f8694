"""Sends events with the official SDK of CloudEvents: binary, structured and as a batch, each twice."""

import sys
from datetime import datetime, timezone

import requests
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

BASE = sys.argv[1]


def event(mode):
    attributes = {
        "id": f"py/{mode}",
        "source": "/shop/1",
        "type": "com.example.order.completed",
        "specversion": "1.0",
        "time": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc),
        "subject": 'order/42 "ü%"',
        "datacontenttype": "application/json",
        "userid": "user-py",
        "flag": True,
    }
    return CloudEvent(attributes, {"mode": mode, "total": 12.5, "name": "Zoë €"})


def post(path, headers, body):
    requests.post(BASE + path, data=body, headers=headers, timeout=30).raise_for_status()


for attempt in range(2):
    for make, mode in [(to_binary_event, "binary"), (to_structured_event, "structured")]:
        message = make(event(mode))
        post("/api/v1/events", message.headers, message.body)
    batch = b",".join(to_structured_event(event(mode)).body for mode in ("batch-1", "batch-2"))
    post("/api/v1/events/batch", {"content-type": "application/cloudevents-batch+json"}, b"[" + batch + b"]")
