// Sends events with the official SDK of CloudEvents: binary, structured and as a batch, each twice.
const { CloudEvent, HTTP, Mode, emitterFor, httpTransport } = require("cloudevents");

const base = process.argv[2];

function event(mode) {
  return new CloudEvent({
    id: `js/${mode}`,
    source: "/shop/1",
    type: "com.example.order.completed",
    time: "2026-01-02T03:04:05.678Z",
    subject: "order/42",
    dataschema: "https://example.com/order.json",
    userid: "user-js",
    data: { mode, total: 12.5, name: "Zoë €", big: 9007199254740991 },
  });
}

async function post(path, headers, body) {
  const answer = await fetch(base + path, { method: "POST", headers, body });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
}

async function main() {
  for (let attempt = 0; attempt < 2; attempt++) {
    for (const [name, mode] of [["binary", Mode.BINARY], ["structured", Mode.STRUCTURED]]) {
      // Its transport tells of no status, so what it makes is also sent with fetch.
      await emitterFor(httpTransport(`${base}/api/v1/events`), { mode })(event(name));
      const { headers, body } = mode === Mode.BINARY ? HTTP.binary(event(name)) : HTTP.structured(event(name));
      await post("/api/v1/events", headers, body);
    }
    const batch = ["batch-1", "batch-2"].map((name) => HTTP.structured(event(name)).body);
    await post("/api/v1/events/batch", { "content-type": "application/cloudevents-batch+json" }, `[${batch.join()}]`);
  }
}

main();
