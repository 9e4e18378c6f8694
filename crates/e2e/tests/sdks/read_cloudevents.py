"""Reads messages with the official SDK of CloudEvents, HTTP's and Kafka's, and prints what they are."""

import base64
import json
import sys

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event

READERS = {"http": (HTTPMessage, from_http_event), "kafka": (KafkaMessage, from_kafka_event)}

read = []
for message in json.load(open(sys.argv[1], encoding="utf-8")):
    make, reader = READERS[message["over"]]
    body = base64.b64decode(message["body"])
    if message["over"] == "http":
        event = reader(make(headers=message["headers"], body=body))
    else:
        headers = {name: value.encode() for name, value in message["headers"].items()}
        event = reader(make(headers=headers, key=None, value=body))
    attributes = {name: str(value) for name, value in event.get_attributes().items()}
    read.append({"attributes": attributes, "data": event.get_data()})
print(json.dumps(read))
