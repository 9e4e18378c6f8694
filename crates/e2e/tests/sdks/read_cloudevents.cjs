// Reads messages with the official SDK of CloudEvents, HTTP's and Kafka's, and prints what they are.
const fs = require("node:fs");
const { HTTP, Kafka } = require("cloudevents");

const read = JSON.parse(fs.readFileSync(process.argv[2], "utf8")).map((message) => {
  const body = Buffer.from(message.body, "base64").toString("utf8");
  const event = message.over === "http"
    ? HTTP.toEvent({ headers: message.headers, body })
    : Kafka.toEvent({ headers: message.headers, value: body, body });
  event.validate();
  const { data, ...attributes } = event.toJSON();
  return { attributes, data };
});
console.log(JSON.stringify(read));
