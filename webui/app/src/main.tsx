import { useEffect } from "preact/hooks";
import { render } from "preact";
import { call, type Status } from "./api";
import { Captures, Finished } from "./captures";
import { focusFilter } from "./filter";
import { keepFocus } from "./focus";
import { duration, time, zone } from "./format";
import { Login } from "./login";
import { Files } from "./files";
import { Ports } from "./ports";
import { Protocols } from "./protocols";
import { Analyses, Viewed } from "./slots";
import { Rings } from "./rings";
import { Start } from "./start";
import { access, attempt, begin, clockOff, contact, lastSeen, logout, notice, snapshot, status } from "./state";
import { StorageDevices } from "./storage";

// Health is the state of the device in a word; never by colour alone.
function Health() {
  const [kind, text] =
    contact.value === "lost"
      ? ["bad", lastSeen.value ? `reconnecting\u2026 last data ${time(lastSeen.value * 1000)}` : "connecting\u2026"]
      : status.value?.state === "degraded"
        ? ["warn", "degraded"]
        : ["ok", "live"];
  return (
    <strong class={`health ${kind}`} role="status">
      {text}
    </strong>
  );
}

// identity is what tells this device from another one: how it is reached, and what its certificate and its clock are.
function identity(s: Status | null): string | undefined {
  if (s === null) return undefined;
  const clock = s.network.clock;
  const time = clock.synced ? `time from ${clock.source}, off by ${(clock.offset / 1000).toFixed(1)} ms` : "time of the machine's own clock";
  return [...(s.network.addresses ?? []), time, `certificate SHA-256 ${s.fingerprint}`].join("\n");
}

function Bar() {
  return (
    <header class="bar">
      <img src="icon.svg" alt="" width="20" height="20" />
      <h1 title={identity(status.value)}>{status.value?.name ?? "Galvo"}</h1>
      <Health />
      <span class="grow" />
      <span class="dim">{zone()}</span>
      <span class="dim version">{status.value?.version}</span>
      <button type="button" onClick={logout}>
        Log out
      </button>
    </header>
  );
}

async function keepSettings(): Promise<void> {
  await attempt(async () => {
    await call("POST", "/config/confirm");
    status.value = await call<Status>("GET", "/status");
  });
}

const clockTolerance = 30_000; // ms

function Problems() {
  const problems = status.value?.problems ?? [];
  return (
    <>
      {(status.value?.network.confirmSeconds ?? 0) > 0 && (
        <p class="note warn row" role="alert">
          <span class="grow">You reach the device with its new management settings.</span>
          <button type="button" onClick={keepSettings}>
            Keep them
          </button>
        </p>
      )}
      {Math.abs(clockOff.value) > clockTolerance && (
        <p class="note warn" id="clock">
          The clock of the device is {duration(1000 * Math.abs(clockOff.value))} {clockOff.value > 0 ? "ahead of" : "behind"} that of this computer. All times on this page are the
          device's. Set the clock that is wrong.
        </p>
      )}
      {problems.map((p) => (
        <p class="note warn" role="alert" key={p}>
          {p}
        </p>
      ))}
    </>
  );
}

// Notice stands over the page, so that it moves nothing.
function Notice() {
  return (
    <div class="notice" role="alert">
      {notice.value !== "" && (
        <p class="note warn row">
          <span class="grow">{notice.value}</span>
          <button type="button" onClick={() => (notice.value = "")}>
            Dismiss
          </button>
        </p>
      )}
    </div>
  );
}

function Main() {
  const s = snapshot.value;
  useEffect(() => {
    document.addEventListener("keydown", key);
    return () => document.removeEventListener("keydown", key);
  }, []);
  return (
    <>
      <Bar />
      <main>
        <Problems />
        <Viewed />
        <Start />
        {s !== null && (
          <>
            <Captures captures={s.captures} last={s.finished[0]} now={s.time} />
            <Ports ports={s.ports} />
            <Protocols protocols={s.protocols} panics={s.panics} />
            <Finished captures={s.finished} />
            <Analyses slots={s.slots} />
            <Rings rings={s.rings} />
            <StorageDevices />
            <Files />
          </>
        )}
      </main>
      <Notice />
    </>
  );
}

// key: a slash leads to the filter, unless somebody writes one, and Escape dismisses the notice.
function key(e: KeyboardEvent): void {
  if (e.key === "Escape") notice.value = "";
  const writing = e.target instanceof Element && e.target.matches("input, select, textarea");
  if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || writing) return;
  e.preventDefault();
  focusFilter();
}

// Away is shown to who was logged in and opens the page of a device that does not answer.
function Away() {
  return (
    <main class="login">
      <p class="note warn" role="alert">
        The device does not answer at {location.host}. This page goes on asking. Meanwhile look whether the device is on, and whether the network leads to it.
      </p>
    </main>
  );
}

const pages = { asking: () => null, away: Away, out: Login, in: Main };

// Where the page itself has a fault, what it shows may be stale, and nothing else would say so.
addEventListener("error", (e) => (notice.value = `This page has a fault, and what it shows may be out of date: reload it. Please report this: ${e.message}`));

function Page() {
  const Shown = pages[access.value];
  return <Shown />;
}

const root = document.getElementById("page");
if (root) render(<Page />, root);
keepFocus();
begin();
