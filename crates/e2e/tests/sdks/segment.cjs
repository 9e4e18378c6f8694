// Sends one of each call with Segment's client for Node.
const { Analytics } = require("@segment/analytics-node");

async function main() {
  const analytics = new Analytics({ writeKey: "wk_js", host: process.argv[2], path: "/v1/batch", flushAt: 4, maxRetries: 10 });
  analytics.on("error", (error) => {
    console.error(error);
    process.exitCode = 1;
  });
  const id = (call) => ({ messageId: `segment-js-${call}`, timestamp: new Date("2026-01-02T03:04:05.678Z") });
  const own = (call) => ({ ...id(call), userId: "segment-js" });
  analytics.track({ ...own("track"), event: "Order Completed", properties: { total: 12.5, items: [{ sku: "x" }], n: null } });
  analytics.identify({ ...own("identify"), traits: { email: "a@example.com" } });
  analytics.page({ ...id("page"), anonymousId: "segment-js", name: "Home", properties: { url: "https://example.com/" } });
  analytics.screen({ ...own("screen"), name: "Cart" });
  analytics.group({ ...own("group"), groupId: "g1", traits: { name: "Acme" } });
  analytics.alias({ ...own("alias"), previousId: "a1" });
  // Sent again by its caller.
  analytics.alias({ ...own("alias"), previousId: "a1" });
  await analytics.closeAndFlush({ timeout: 30_000 });
}

main();
