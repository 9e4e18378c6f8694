// Sends one of each call with RudderStack's client for Node, packed and plain.
const RudderAnalytics = require("@rudderstack/rudder-sdk-node");

async function run(gzip) {
  const user = gzip ? "rudder-gzip" : "rudder-plain";
  const errorHandler = (error) => {
    console.error(error);
    process.exitCode = 1;
  };
  const rudder = new RudderAnalytics("wk_rs", { dataPlaneUrl: process.argv[2], gzip, flushAt: 4, errorHandler });
  const sent = [];
  const send = (call, more) => {
    const message = { messageId: `${user}-${call}`, userId: user, originalTimestamp: new Date("2026-01-02T03:04:05.678Z"), ...more };
    sent.push(new Promise((resolve) => rudder[call](message, resolve)));
  };
  send("track", { event: "Contact Form Sent", properties: { total: 12.5 } });
  send("identify", { traits: { email: "a@example.com" } });
  send("page", { name: "Home", properties: { url: "https://example.com/" } });
  send("screen", { name: "Cart" });
  send("group", { groupId: "g1", traits: { name: "Acme" } });
  send("alias", { previousId: "a1" });
  await rudder.flush();
  // A flush that is under way already is not waited for.
  await Promise.all(sent);
}

run(true).then(() => run(false)).then(() => process.exit());
