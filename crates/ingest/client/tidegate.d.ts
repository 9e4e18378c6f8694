/** Options of a client; all may be left out. */
export interface Options {
  /** Where events go, such as `https://events.example`. Default: the page's own origin. */
  url?: string;
  /** A write key (`tg_write_…`) of the tenant whose events these are. Default: those of the default tenant. */
  writeKey?: string;
  /** Where live events come from, if that is another address. */
  queryUrl?: string;
  /** So many waiting events are sent at once. Default 10; a request holds at most 50. */
  batch?: number;
  /** Milliseconds that fewer wait for company. Default 3000. */
  interval?: number;
  /** Most bytes of events kept until they are acknowledged; the oldest give way. Default 1 MiB. */
  storageBytes?: number;
  /** What is added to every event's `context.client_info`; at most 3 KiB. */
  clientInfo?: Record<string, unknown>;
  /** Is told of events that were given up. Default: a line of the console. */
  onDrop?: (drop: Drop) => void;
}

/** Events that were given up. */
export interface Drop {
  /**
   * `storage`: more waited than `storageBytes`; `refused`: the gateway will never take it;
   * `too_large`: more than 256 KiB; `invalid`: cannot be written as JSON.
   */
  reason: "storage" | "refused" | "too_large" | "invalid";
  events: object[];
  /** The gateway's answer. */
  status?: number;
  detail?: string;
  errors?: { path: string; code: string; message: string }[];
}

/** Further fields of an event, as the gateway's frontend form has them. */
export interface EventOptions {
  category?: "user_interaction" | "business_action" | "system_event";
  /** Your own id: the same id is stored once. */
  event_id?: string;
  /** When it happened. Default: now. */
  timestamp?: string | Date;
  user_id?: string;
  session_id?: string;
  device_id?: string;
  organization_id?: string;
  correlation_id?: string;
  aggregate_type?: string;
  aggregate_id?: string;
  page_url?: string;
  metadata?: Record<string, unknown>;
  context?: Record<string, unknown>;
  properties?: Record<string, unknown>;
}

/** An event as listeners get it. */
export interface LiveEvent {
  event_id: string;
  event_type: string;
  user_id: string;
  session_id?: string;
  timestamp: string;
  payload: Record<string, unknown>;
  /** It happened before, and was sent again by a replay. */
  replayed?: true;
  /** Which replay. */
  replay_id?: string;
}

export interface ListenOptions {
  /** Patterns of event types, such as `order.*`. Default: all. */
  types?: string | string[];
  /** Credentials, such as `{ Authorization: "Bearer …" }`, where the service wants some. */
  headers?: Record<string, string>;
  /** Something may be missing before what follows: ask the history. */
  onReset?: (reset: { reason: string }, id: string) => void;
  /** The service will not have this listener; it is closed. */
  onRefused?: (refusal: { status: number; detail?: string }) => void;
  /** Go on behind this position. Default: where this tab's last listener of the same user and types was. */
  after?: string;
  /** false: begin with what happens from now on, also after a reload. */
  resume?: boolean;
}

export interface Listener {
  /** Where a later listener has to go on, as `after`. */
  readonly position: string | null;
  close(): void;
}

/** Sends a page's events, and listens to a user's. No method throws. */
export class Tidegate {
  constructor(options?: Options);
  /** How many events were given up. */
  dropped: number;
  /** Something happened: it is kept at once and sent soon. */
  track(type: string, data?: object, options?: EventOptions): void;
  /** A page was shown: a `page_view` with title, referrer and path. */
  page(data?: object, options?: EventOptions): void;
  /** Who it is, from now on and after a reload. */
  identify(user: string, traits?: object): void;
  /** Forgets user, session and device. */
  reset(): void;
  /** Sends all there is; resolves when it is answered or has to wait, and never rejects. */
  flush(): Promise<void>;
  /** Hands a user's live events to the handler, in order and each once, until it is closed. */
  listen(user: string, handler: (event: LiveEvent, id: string) => void, options?: ListenOptions): Listener;
  /** A call as an array: `["track", "signup"]`. */
  push(call: [method: string, ...values: unknown[]]): void;
  /** Ends timers and listeners; what is queued stays for the next client. */
  close(): void;
}

export const VERSION: string;

declare global {
  interface Window {
    /** Made by the script `tidegate.js`; before that, the calls that wait for it. */
    tidegate: Tidegate | [method: string, ...values: unknown[]][];
    Tidegate: typeof Tidegate;
  }
}
