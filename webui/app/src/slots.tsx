import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call, type Slot } from "./api";
import { amount, bytes, count, duration, time } from "./format";
import { Scanned } from "./scan";
import { attempt, show, snapshot, view } from "./state";
import { type Column, counter, Panel, Table } from "./table";

const names = (s: Slot) => (s.ring ? `ring ${s.ring.name}` : s.files.map((f) => f.path).join(", "));

function Progress({ s }: { s: Slot }) {
  const done = s.totalBytes > 0 ? Math.floor((100 * s.bytes) / s.totalBytes) : 0;
  const rest = s.secondsLeft >= 0 ? `, ${duration(s.secondsLeft * 1e6)} left` : "";
  return (
    <>
      <strong class={s.state === "failed" ? "warn" : s.state === "ready" ? "ok" : ""}>{s.state}</strong>{" "}
      <span class="dim tabular">{s.state === "running" ? `${done} %, ${bytes(s.rate)}/s${rest}` : s.reason}</span>
    </>
  );
}

const columns: Column<Slot>[] = [
  {
    name: "Analysed",
    cell: (s) => (
      <>
        <span class="brief">
          {s.id} <strong>{names(s)}</strong>
        </span>
        <span class="line dim">
          {s.startTime !== undefined && s.endTime !== undefined && `${time(s.startTime)}, ${duration(s.endTime - s.startTime)}`}
        </span>
        {s.scan && <Scanned scan={s.scan} />}
      </>
    ),
    exact: names,
  },
  { name: "State", cell: (s) => <Progress s={s} /> },
  counter("Packets", "read so far", (s) => s.packets),
  { name: "Flows", kind: "num", cell: (s) => amount(s.flows), exact: (s) => count(s.flows) },
  {
    name: "Look",
    kind: "mid",
    cell: (s) => {
      const shown = view.value === `:${s.id}`;
      return (
        <button type="button" aria-pressed={shown} onClick={() => show(shown ? "" : `:${s.id}`)}>
          {shown ? "Back to live traffic" : "Show"}
        </button>
      );
    },
  },
  {
    name: "End",
    kind: "act",
    cell: (s) => (
      <button type="button" aria-label={`End analysis ${s.id}`} onClick={() => end(s)}>
        End
      </button>
    ),
  },
];

// begun is the slot of an analysis that somebody has just begun: he is led to it as soon as it is listed.
const begun = signal(0);

export async function analyse(what: unknown): Promise<void> {
  begun.value = (await call<Slot>("POST", "/slots", what)).id;
}

async function end(s: Slot): Promise<void> {
  if (view.value === `:${s.id}`) show("");
  await attempt(() => call("DELETE", `/slots/${s.id}`));
}

const title = "Analyses of savefiles";

// Analyses lists the savefiles and intervals of rings that are analysed beside the live traffic.
export function Analyses({ slots }: { slots: Slot[] }) {
  const taken = slots.filter((s) => s.state !== "free");
  useEffect(() => {
    if (!taken.some((s) => s.id === begun.value)) return;
    begun.value = 0;
    document.querySelector<HTMLElement>(`section[aria-label="${title}"] h2`)?.focus();
  });
  if (taken.length === 0) return null;
  return (
    <Panel title={title}>
      <Table label="Analyses" columns={columns} rows={taken} id={(s) => String(s.id)} empty="" />
    </Panel>
  );
}

// Viewed says that what is shown is not the live traffic.
export function Viewed() {
  const slot = snapshot.value?.slots.find((s) => view.value === `:${s.id}`);
  if (slot === undefined) return null;
  return (
    <p class="note warn row">
      <span class="grow">
        Ports, protocols and new captures are those of slot {slot.id}: {names(slot)}
      </span>
      <button type="button" onClick={() => show("")}>
        Back to live traffic
      </button>
    </p>
  );
}
