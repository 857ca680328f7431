// What the page knows: one snapshot of the device, kept current by server-sent events, and whether the user is let in.

import { signal } from "@preact/signals";
import { call, readSnapshot, Refusal, type Snapshot, type Status } from "./api";
import { sentence } from "./format";

// Access is "away" while it is not known, because the device does not answer.
export type Access = "asking" | "away" | "in" | "out";

export const access = signal<Access>("asking");
export const status = signal<Status | null>(null);
export const snapshot = signal<Snapshot | null>(null);
export const contact = signal<"live" | "lost">("lost");
export const lastSeen = signal(0); // ms since the epoch
export const ended = signal(false); // the session, without a logout
export const clockOff = signal(0); // ms that the device's clock is ahead of the browser's
export const notice = signal(""); // the last refusal, until it is dismissed
export const view = signal(""); // what ports and protocols are shown of: "" is the live traffic, ":1" a slot
export const user = signal(localStorage.getItem("user") ?? "admin"); // who logged in last with this browser

const patience = 5000; // ms; the device speaks twice a second
const retry = 2000;

let events: EventSource | null = null;
let again: ReturnType<typeof setTimeout> | undefined;

// begin asks for a login without asking the device where nobody logged in: a browser reports the refusal as an error of the page.
export function begin(): void {
  if (localStorage.getItem("user") === null) leave();
  else void enter();
}

// enter asks whether the user is in, until the device answers.
export async function enter(): Promise<void> {
  clearTimeout(again);
  try {
    status.value = await call<Status>("GET", "/status");
  } catch (e) {
    if (isLogin(e)) expire();
    else {
      if (access.value === "asking") access.value = "away";
      again = setTimeout(enter, retry);
    }
    return;
  }
  access.value = "in";
  watch();
}

export async function login(name: string, password: string): Promise<void> {
  await call("POST", "/login", { user: name, password });
  user.value = name;
  localStorage.setItem("user", name);
  notice.value = "";
  ended.value = false;
  await enter();
}

export async function logout(): Promise<void> {
  await attempt(async () => {
    await call("POST", "/logout");
    localStorage.removeItem("user");
    leave();
  });
}

function leave(): void {
  clearTimeout(again);
  events?.close();
  access.value = "out";
  contact.value = "lost";
  snapshot.value = null;
}

// expire leaves a session that the device does not know any more.
function expire(): void {
  ended.value = true;
  leave();
}

const isLogin = (e: unknown) => e instanceof Refusal && e.status === 401;

// reason says why something was refused.
export function reason(e: unknown): string {
  if (isLogin(e)) expire();
  return sentence(e instanceof Error ? e.message : String(e));
}

// say shows why something was refused.
export function say(e: unknown): void {
  const text = reason(e);
  if (!isLogin(e)) notice.value = text;
}

// attempt does what somebody asks for, and shows why it was refused. What was refused before is not said any more.
export async function attempt(what: () => Promise<unknown>): Promise<void> {
  notice.value = "";
  try {
    await what();
  } catch (e) {
    say(e);
  }
}

const roles: Status["role"][] = ["viewer", "capture", "admin"]; // each has the rights of those before it

// may says whether the user has a role: what the device would refuse is not offered.
export const may = (role: Status["role"]) => roles.indexOf(status.value?.role ?? "viewer") >= roles.indexOf(role);

// live shows a rate only while it is one.
export function live(rate: string): string {
  return contact.value === "live" ? rate : "\u2013";
}

// show changes what is looked at.
export function show(what: string): void {
  view.value = what;
  watch();
}

function watch(): void {
  events?.close();
  const source = new EventSource(view.value === "" ? "/api/v1/events" : `/api/v1/events?mm-id=${view.value}`);
  source.addEventListener("snapshot", (e) => {
    snapshot.value = readSnapshot(e.data, snapshot.value);
    lastSeen.value = Date.now();
    clockOff.value = 1000 * Math.round((snapshot.value.time / 1000 - lastSeen.value) / 1000);
    contact.value = "live";
  });
  source.onerror = () => {
    contact.value = "lost";
    if (source.readyState !== EventSource.CLOSED) return;
    if (view.value !== "") show(""); // the analysis was ended
    else again = setTimeout(enter, retry);
  };
  events = source;
}

// A page that nobody sees asks for nothing until somebody looks at it again.
document.addEventListener("visibilitychange", () => {
  if (access.value !== "in") return;
  if (document.hidden) events?.close();
  else watch();
});

let polling = false;

// The state of the services is not in the events, since it is what says that the engine is down. And a connection can die without an error.
setInterval(async () => {
  if (access.value !== "in" || document.hidden) return;
  const silent = Date.now() - lastSeen.value > patience;
  if (silent) contact.value = "lost";
  if (polling) return; // the device is slow
  polling = true;
  try {
    status.value = await call<Status>("GET", "/status");
    if (silent && events?.readyState === EventSource.OPEN) watch();
  } catch (e) {
    if (isLogin(e)) expire();
  }
  polling = false;
}, retry);
