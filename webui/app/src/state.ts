// What the page knows: one snapshot of the device, kept current by server-sent events, and whether the user is let in.

import { signal } from "@preact/signals";
import { call, Refusal, type Snapshot, type Status } from "./api";

export type Access = "asking" | "in" | "out";

export const access = signal<Access>("asking");
export const status = signal<Status | null>(null);
export const snapshot = signal<Snapshot | null>(null);
export const contact = signal<"live" | "lost">("lost");
export const lastSeen = signal(0); // ms since the epoch
export const notice = signal(""); // the last refusal, until it is dismissed

let events: EventSource | null = null;

export async function enter(): Promise<void> {
  try {
    status.value = await call<Status>("GET", "/status");
    access.value = "in";
    watch();
  } catch (e) {
    if (e instanceof Refusal && e.status === 401) {
      access.value = "out";
      return;
    }
    contact.value = "lost";
    setTimeout(enter, 2000);
  }
}

export async function login(user: string, password: string): Promise<void> {
  await call("POST", "/login", { user, password });
  await enter();
}

export async function logout(): Promise<void> {
  events?.close();
  events = null;
  await call("POST", "/logout").catch(say);
  access.value = "out";
  snapshot.value = null;
}

// say shows why something was refused.
export function say(e: unknown): void {
  notice.value = e instanceof Error ? e.message : String(e);
  if (e instanceof Refusal && e.status === 401) access.value = "out";
}

function watch(): void {
  events?.close();
  events = new EventSource("/api/v1/events");
  events.addEventListener("snapshot", (e) => {
    snapshot.value = JSON.parse(e.data) as Snapshot;
    contact.value = "live";
    lastSeen.value = Date.now();
  });
  events.onerror = () => {
    contact.value = "lost";
    if (events?.readyState === EventSource.CLOSED) setTimeout(enter, 2000);
  };
}

// A connection can die without an error; the device speaks at least every second.
setInterval(() => {
  if (Date.now() - lastSeen.value > 5000) contact.value = "lost";
}, 1000);

// The state of the services is not in the events, since it is what says that the engine is down.
setInterval(async () => {
  if (access.value !== "in" || document.hidden) return;
  try {
    status.value = await call<Status>("GET", "/status");
  } catch (e) {
    if (e instanceof Refusal && e.status === 401) access.value = "out";
  }
}, 3000);
