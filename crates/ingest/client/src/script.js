import { Tidegate } from "./index.js";

// `<script src="https://events.example/tidegate.js">` makes `window.tidegate`, for where it came from.
// A page that did not want to wait has `(window.tidegate ||= []).push(["track", …])`.
const { tidegate: waiting, document } = window;
if (!waiting || Array.isArray(waiting)) {
  const script = /** @type {HTMLScriptElement | null} */ (document.currentScript);
  const url = script?.dataset.url ?? (script?.src ? new URL(".", script.src).href : undefined);
  const client = new Tidegate({ url, writeKey: script?.dataset.writeKey });
  Object.assign(window, { Tidegate, tidegate: client });
  for (const call of waiting ?? []) client.push(call);
  if (script && "page" in script.dataset) client.page();
}
