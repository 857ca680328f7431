import { useEffect } from "preact/hooks";
import { render } from "preact";
import { Captures, Finished } from "./captures";
import { focusFilter } from "./filter";
import { time, zone } from "./format";
import { Login } from "./login";
import { Files } from "./files";
import { Ports } from "./ports";
import { Protocols } from "./protocols";
import { Analyses, Viewed } from "./slots";
import { Start } from "./start";
import { access, begin, contact, lastSeen, logout, notice, snapshot, status } from "./state";
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

function Bar() {
  return (
    <header class="bar">
      <img src="icon.svg" alt="" width="20" height="20" />
      <h1>{status.value?.name ?? "Galvo"}</h1>
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

function Problems() {
  const problems = status.value?.problems ?? [];
  return (
    <>
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
    document.addEventListener("keydown", slash);
    return () => document.removeEventListener("keydown", slash);
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
            <Captures captures={s.captures} now={s.time} />
            <Ports ports={s.ports} />
            <Protocols protocols={s.protocols} />
            <Finished captures={s.finished} />
            <Analyses slots={s.slots} />
            <StorageDevices />
            <Files />
          </>
        )}
      </main>
      <Notice />
    </>
  );
}

// slash leads to the filter, unless somebody writes one.
function slash(e: KeyboardEvent): void {
  const writing = e.target instanceof Element && e.target.matches("input, select, textarea");
  if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || writing) return;
  e.preventDefault();
  focusFilter();
}

const pages = { asking: () => null, out: Login, in: Main };

function Page() {
  const Shown = pages[access.value];
  return <Shown />;
}

const root = document.getElementById("page");
if (root) render(<Page />, root);
begin();
