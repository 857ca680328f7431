import { render } from "preact";
import { Captures, Finished } from "./captures";
import { Login } from "./login";
import { Ports } from "./ports";
import { Protocols } from "./protocols";
import { Start } from "./start";
import { access, contact, enter, lastSeen, logout, notice, snapshot, status } from "./state";
import { time, zone } from "./format";

function Bar() {
  const s = status.value;
  const lost = contact.value === "lost";
  return (
    <header class="bar">
      <img src="icon.svg" alt="" width="20" height="20" />
      <strong>{s?.name ?? "Galvo"}</strong>
      <span class={lost ? "state bad" : "state ok"} role="status">
        {lost ? (lastSeen.value ? `reconnecting… last data ${time(lastSeen.value * 1000)}` : "connecting…") : "live"}
      </span>
      <span class="grow" />
      <span class="dim">{zone()}</span>
      <span class="dim">{s?.version}</span>
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
      {notice.value !== "" && (
        <p class="note warn" role="alert">
          {notice.value}{" "}
          <button type="button" onClick={() => (notice.value = "")}>
            Dismiss
          </button>
        </p>
      )}
    </>
  );
}

function Page() {
  if (access.value === "out") return <Login />;
  const s = snapshot.value;
  return (
    <>
      <Bar />
      <main>
        <Problems />
        <Start />
        {s === null ? (
          <p class="dim">Waiting for the device…</p>
        ) : (
          <>
            <Ports ports={s.ports} />
            <Captures captures={s.captures} />
            <Protocols protocols={s.protocols} />
            <Finished captures={s.finished} />
          </>
        )}
      </main>
    </>
  );
}

const root = document.getElementById("page");
if (root) render(<Page />, root);
void enter();
