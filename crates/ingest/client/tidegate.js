// Tidegate's browser client, Apache-2.0. Written by scripts/browser-client; do not edit.
(() => {
function warn(error) {
console.warn("tidegate:", error);
}
let last = 0;
let count = 0;
function uuid7(now = Date.now()) {
const bytes = crypto.getRandomValues(new Uint8Array(16));
if (now > last) {
last = now;
count = ((bytes[6] & 7) << 8) | bytes[7];
} else if (++count > 0xfff) {
last += 1;
count = 0;
}
for (let i = 0; i < 6; i++) bytes[i] = Math.floor(last / 2 ** (8 * (5 - i)));
bytes[6] = 0x70 | (count >> 8);
bytes[7] = count;
bytes[8] = 0x80 | (bytes[8] & 0x3f);
const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
return hex.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
const FIRST = 1000;
const LONGEST = 60_000;
const LONGEST_WAIT = 3_600_000;
function isTemporary(status) {
return status < 400 || status >= 500 || [408, 425, 429].includes(status);
}
function backoff(failures) {
return Math.min(FIRST * 2 ** (failures - 1), LONGEST) * (0.5 + Math.random() / 2);
}
function retryAfter(response) {
const text = response.headers.get("retry-after") ?? "";
const wanted = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
return wanted > 0 ? Math.min(wanted, LONGEST_WAIT) : 0;
}
class Store {
#area;
#prefix;
#memory = new Map();
constructor(name, prefix) {
this.#prefix = prefix;
try {
this.#area = globalThis[name];
} catch {
}
}
get(key) {
try {
return this.#memory.get(key) ?? this.#area.getItem(this.#prefix + key);
} catch {
return null;
}
}
set(key, value) {
try {
this.#area.setItem(this.#prefix + key, value);
this.#memory.delete(key);
return true;
} catch {
this.#memory.set(key, value);
return false;
}
}
remove(key) {
this.#memory.delete(key);
try {
this.#area.removeItem(this.#prefix + key);
} catch {
}
}
keys(start) {
const keys = new Set(this.#memory.keys());
try {
for (const key of Object.keys(this.#area)) {
if (key.startsWith(this.#prefix)) keys.add(key.slice(this.#prefix.length));
}
} catch {
}
return [...keys].filter((key) => key.startsWith(start)).sort();
}
}
const START = "event:";
class Queue {
#store;
#limit;
#evicted;
#bytes = 0;
constructor(store, limit, evicted) {
this.#store = store;
this.#limit = limit;
this.#evicted = evicted;
this.list();
}
put(id, text) {
this.#bytes += cost(text);
if (this.#bytes > this.#limit) this.#evict(cost(text));
this.#store.set(START + id, text);
}
list() {
const events = [];
this.#bytes = 0;
for (const key of this.#store.keys(START)) {
const text = this.#store.get(key);
if (text === null) continue;
this.#bytes += cost(text);
events.push({ id: key.slice(START.length), text });
}
return events;
}
remove(id) {
const there = this.#store.get(START + id) !== null;
this.#store.remove(START + id);
return there;
}
#evict(room) {
const evicted = [];
for (const { id, text } of this.list()) {
if (this.#bytes + room <= this.#limit) break;
this.#bytes -= cost(text);
this.remove(id);
evicted.push(text);
}
this.#bytes += room;
if (evicted.length) this.#evicted(evicted);
}
}
function cost(text) {
return 2 * (text.length + 100);
}
const BATCH_EVENTS = 50;
const BATCH_BYTES = 60_000;
const TIMEOUT = 30_000;
const WAIT = "wait";
class Sender {
#url;
#queue;
#store;
#interval;
#clientInfo;
#dropped;
#running;
#again = false;
#timer;
#due = Infinity;
#failures = 0;
#size = BATCH_EVENTS;
#own = new Map();
constructor(url, queue, store, { interval, clientInfo, dropped }) {
this.#url = url;
this.#queue = queue;
this.#store = store;
this.#interval = interval;
this.#clientInfo = clientInfo;
this.#dropped = dropped;
}
add(id, text, enough) {
this.#queue.put(id, text);
this.#own.set(id, false);
this.schedule(this.#own.size >= enough ? 0 : this.#interval);
}
schedule(delay) {
const due = Date.now() + Math.max(delay, this.#wait());
if (due >= this.#due) return;
clearTimeout(this.#timer);
this.#due = due;
this.#timer = setTimeout(() => this.flush(), due - Date.now());
}
online() {
this.#failures = 0;
this.stop();
this.schedule(0);
}
stop() {
clearTimeout(this.#timer);
this.#due = Infinity;
}
flush() {
this.stop();
this.#again = true;
this.#running ??= this.#run().catch(warn).finally(() => {
this.#running = undefined;
});
return this.#running;
}
leave(gone) {
const events = take(this.#pending().filter(({ id }) => this.#own.get(id) === false), Infinity);
while (events.length && !this.#wait()) {
const batch = take(events, BATCH_EVENTS);
if (!gone) this.#send(batch, true).catch(warn);
else if (!navigator.sendBeacon(this.#url, this.#body(batch))) return;
for (const { id } of batch) this.#own.set(id, true);
}
}
async #run() {
while (this.#again) {
this.#again = false;
await exclusively(this.#url, () => this.#drain());
}
}
async #drain() {
for (;;) {
const batch = take(this.#pending(), this.#size);
if (!batch.length) return;
if (this.#wait() || !(await this.#send(batch, false))) break;
}
this.schedule(this.#failures ? backoff(this.#failures) : this.#interval);
}
#pending() {
const events = this.#queue.list();
const ids = new Set(events.map(({ id }) => id));
for (const id of this.#own.keys()) if (!ids.has(id)) this.#own.delete(id);
return events;
}
#wait() {
const left = Number(this.#store.get(WAIT)) - Date.now();
return left > 0 && left <= LONGEST_WAIT ? left : 0;
}
#body(batch) {
return `{"events":[${batch.map(({ text }) => text).join()}],"client_info":${this.#clientInfo}}`;
}
async #send(batch, keepalive) {
let response;
let answer;
const abort = new AbortController();
const timer = setTimeout(() => abort.abort(), TIMEOUT);
try {
const request = { method: "POST", body: this.#body(batch), headers: { "Content-Type": "text/plain" } };
response = await fetch(`${this.#url}${this.#url.includes("?") ? "&" : "?"}partial=true`, { ...request, keepalive, signal: abort.signal });
answer = await response.json().catch(() => undefined);
} catch {
response = undefined;
} finally {
clearTimeout(timer);
}
if (!response || response.redirected || (isTemporary(response.status) && !isAnswered(response, answer, batch))) {
this.#failures += 1;
const wait = response && retryAfter(response);
if (wait) this.#store.set(WAIT, String(Date.now() + wait));
return false;
}
this.#failures = 0;
if (response.status === 413 && batch.length > 1) {
this.#size = Math.ceil(batch.length / 2);
return true;
}
this.#size = Math.min(this.#size * 2, BATCH_EVENTS);
this.#settle(batch, response, answer ?? {});
return true;
}
#settle(batch, response, answer) {
const refused = response.ok ? [] : batch.slice();
const errors = new Map();
for (const error of Array.isArray(answer.errors) ? answer.errors : []) {
const [, index, path] = /^events\[(\d+)]\.?(.*)/.exec(error?.path) ?? [];
const event = batch[Number(index)];
if (!event) continue;
if (!refused.includes(event)) refused.push(event);
errors.set(event, [...(errors.get(event) ?? []), { ...error, path }]);
}
for (const event of batch) {
const wrong = errors.get(event) ?? [];
const undated = wrong.length && wrong.every(({ path }) => path === "timestamp") && withoutTime(event.text);
if (undated) {
this.#queue.put(event.id, undated);
continue;
}
this.#own.delete(event.id);
if (this.#queue.remove(event.id) && refused.includes(event)) {
this.#dropped("refused", [event.text], { status: response.status, detail: answer.detail, errors: wrong });
}
}
}
}
function take(events, most) {
let bytes = 0;
let count = 0;
for (const { text } of events.slice(0, most)) {
bytes += size(text);
if (count && bytes > BATCH_BYTES) break;
count += 1;
}
return events.splice(0, count);
}
function size(text) {
return new TextEncoder().encode(text).length + 1;
}
function isAnswered(response, answer, batch) {
return response.ok && answer?.status === "accepted"
&& answer.processed_count + (answer.rejected ?? 0) === batch.length;
}
function withoutTime(text) {
const { timestamp, ...event } = JSON.parse(text);
return timestamp && JSON.stringify(event);
}
async function exclusively(name, work) {
let begun = false;
const once = () => {
begun = true;
return work();
};
try {
await navigator.locks.request(`tidegate ${name}`, once);
} catch {
if (!begun) await once();
}
}
const SILENCE = 60_000;
class Listener {
#url;
#store;
#key;
#options;
#handler;
#ended;
#abort;
#wake = () => {};
#closed = false;
#retry = 3000;
#position;
constructor(base, store, user, handler, options, ended) {
const types = [options.types ?? []].flat().map((type) => `&types=${encodeURIComponent(type)}`).join("");
this.#url = `${base}/api/v1/sse/users/${encodeURIComponent(user)}?named=false${types}`;
this.#store = store;
this.#key = `position:${user}${types}`;
this.#handler = handler;
this.#options = options;
this.#ended = ended;
this.#position = options.after ?? (options.resume === false ? null : store.get(this.#key));
this.#run();
}
get position() {
return this.#position;
}
close() {
this.#closed = true;
this.#abort?.abort();
this.#wake();
this.#ended(this);
}
online() {
this.#wake();
}
async #run() {
for (let failures = 0; !this.#closed; ) {
let opened = false;
let asked = 0;
this.#abort = new AbortController();
try {
const after = this.#position ? `&last_event_id=${encodeURIComponent(this.#position)}` : "";
const { headers } = this.#options;
const response = await fetch(this.#url + after, { headers, signal: this.#abort.signal, cache: "no-store" });
if (response.ok) {
failures = 0;
opened = true;
await this.#read(response.body);
} else if (isTemporary(response.status)) {
asked = retryAfter(response);
} else {
const { detail } = await response.json().catch(() => ({}));
this.close();
this.#call(() => this.#options.onRefused?.({ status: response.status, detail }));
return;
}
} catch {
}
if (!this.#closed) await this.#sleep(opened ? this.#retry : asked || backoff(++failures));
}
}
#sleep(milliseconds) {
return new Promise((/** @type {(value?: unknown) => void} */ resolve) => {
const timer = setTimeout(resolve, milliseconds);
this.#wake = () => {
clearTimeout(timer);
resolve();
};
});
}
async #read(body) {
const reader = body.pipeThrough(new TextDecoderStream()).getReader();
const message = { id: this.#position, event: "", data: [] };
let rest = "";
for (;;) {
const silence = setTimeout(() => this.#abort.abort(), SILENCE);
const { done, value } = await reader.read().finally(() => clearTimeout(silence));
if (done) return;
const lines = (rest + value).split("\n");
rest = lines.pop() ?? "";
for (const line of lines) this.#line(message, line.replace(/\r$/, ""));
}
}
#line(message, line) {
const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
if (field === "data") message.data.push(value);
else if (field === "event" || field === "id") message[field] = value;
else if (field === "retry" && /^\d+$/.test(value)) this.#retry = Number(value);
if (line || this.#closed) return;
if (message.data.length) this.#dispatch(message);
this.#position = message.id;
if (this.#options.resume !== false && this.#position) this.#store.set(this.#key, this.#position);
message.event = "";
message.data = [];
}
#dispatch({ id, event, data }) {
const callback = event === "reset" ? this.#options.onReset : this.#handler;
this.#call(() => callback?.(JSON.parse(data.join("\n")), id));
}
#call(act) {
try {
act();
} catch (error) {
warn(error);
}
}
}
const VERSION = "1.0.0";
const EVENT_BYTES = 256 * 1024;
const SESSION_MINUTES = 30;
class Tidegate {
#url;
#options;
#store;
#tab;
#sender;
#listeners = new Set();
#leaving = new AbortController();
dropped = 0;
constructor(options) {
options ??= {};
this.#options = options;
this.#url = String(options.url ?? globalThis.location?.origin ?? "").replace(/\/+$/, "");
const prefix = `tidegate ${this.#url} `;
this.#store = new Store("localStorage", prefix);
this.#tab = new Store("sessionStorage", prefix);
const dropped = (reason, texts, more) => this.#safely(() => {
this.#drop({ reason, events: texts.map((text) => JSON.parse(text)), ...more });
});
const queue = new Queue(this.#store, options.storageBytes ?? 1 << 20, (texts) => dropped("storage", texts, {}));
const key = options.writeKey ? `?write_key=${encodeURIComponent(options.writeKey)}` : "";
this.#sender = new Sender(`${this.#url}/api/v1/events/frontend/batch${key}`, queue, this.#store, {
interval: options.interval ?? 3000,
clientInfo: environment(options.clientInfo),
dropped,
});
this.#safely(() => this.#watch());
if (queue.list().length) this.#sender.schedule(0);
}
track(type, data = {}, options = {}) {
this.#safely(() => {
const id = uuid7();
const event = {
event_id: id,
event_type: String(type),
category: "user_interaction",
timestamp: new Date().toISOString(),
user_id: this.#store.get("user") ?? undefined,
session_id: this.#session(),
device_id: this.#device(),
page_url: globalThis.location?.href.slice(0, 4000),
...options,
data: typeof data === "object" && data && !Array.isArray(data) ? data : { value: data },
};
let text;
try {
text = storable(JSON.stringify(event));
} catch (error) {
return this.#drop({ reason: "invalid", events: [event], detail: String(error) });
}
if (new TextEncoder().encode(text).length > EVENT_BYTES) {
return this.#drop({ reason: "too_large", events: [event], detail: `more than ${EVENT_BYTES} bytes` });
}
this.#sender.add(id, text, this.#options.batch ?? 10);
});
}
page(data = {}, options = {}) {
this.#safely(() => {
const { title, referrer } = globalThis.document ?? {};
this.track("page_view", { title, referrer, path: globalThis.location?.pathname, ...data }, options);
});
}
identify(user, traits = {}) {
this.#safely(() => {
this.#store.set("user", String(user));
this.track("identify", traits, { category: "business_action" });
});
}
reset() {
for (const key of ["user", "session", "device"]) this.#store.remove(key);
}
async flush() {
await this.#sender.flush();
}
listen(user, handler, options) {
const base = this.#options.queryUrl ?? this.#url;
const ended = (listener) => this.#listeners.delete(listener);
const listener = new Listener(base, this.#tab, wellFormed(user), handler, options ?? {}, ended);
this.#listeners.add(listener);
return listener;
}
push(call) {
this.#safely(() => {
const [method, ...values] = call;
this[method](...values);
});
}
close() {
this.#leaving.abort();
this.#sender.stop();
for (const listener of this.#listeners) listener.close();
}
#watch() {
const on = (target, name, act) => {
target?.addEventListener?.(name, () => this.#safely(act), { signal: this.#leaving.signal });
};
on(globalThis, "pagehide", () => this.#sender.leave(true));
on(globalThis, "pageshow", () => this.#sender.schedule(0));
on(globalThis, "online", () => {
this.#sender.online();
for (const listener of this.#listeners) listener.online();
});
on(globalThis.document, "visibilitychange", () => {
if (document.visibilityState === "hidden") this.#sender.leave(false);
});
}
#session() {
const now = Date.now();
const [id, seen] = (this.#store.get("session") ?? "").split(" ");
const idle = (now - Number(seen)) / 60_000;
const session = id && idle < SESSION_MINUTES ? id : uuid7();
if (session !== id || idle > 1) this.#store.set("session", `${session} ${now}`);
return session;
}
#device() {
const known = this.#store.get("device");
if (known) return known;
const device = uuid7();
this.#store.set("device", device);
return device;
}
#drop(drop) {
this.dropped += drop.events.length;
this.#safely(() => (this.#options.onDrop ?? warn)(drop));
}
#safely(act) {
try {
act();
} catch (error) {
warn(error);
}
}
}
function environment(more) {
const { screen } = globalThis;
const known = {
library: `tidegate.js/${VERSION}`,
language: globalThis.navigator?.language,
timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
screen_resolution: screen && `${screen.width}x${screen.height}`,
};
try {
return storable(JSON.stringify({ ...known, ...more }));
} catch (error) {
warn(error);
return JSON.stringify(known);
}
}
function storable(json) {
return json.replace(/\\\\|\\u(?:0000|d[89a-f]..)/gi, (found) => (found === "\\\\" ? found : "\ufffd"));
}
function wellFormed(text) {
return JSON.parse(storable(JSON.stringify(String(text))));
}
const { tidegate: waiting, document } = window;
if (!waiting || Array.isArray(waiting)) {
const script = /** @type {HTMLScriptElement | null} */ (document.currentScript);
const url = script?.dataset.url ?? (script?.src ? new URL(".", script.src).href : undefined);
const client = new Tidegate({ url, writeKey: script?.dataset.writeKey });
Object.assign(window, { Tidegate, tidegate: client });
for (const call of waiting ?? []) client.push(call);
if (script && "page" in script.dataset) client.page();
}
})();
