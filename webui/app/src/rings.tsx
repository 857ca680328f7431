import { useSignal } from "@preact/signals";
import { call, readable, type Ring } from "./api";
import { focusFilter } from "./filter";
import { bytes, count, sentence, time } from "./format";
import { NewRing } from "./newring";
import { Keep, Pins } from "./pins";
import { EditRules, ruleWords } from "./rules";
import { live, may } from "./state";
import { deviceName, Dialog, refreshDevices } from "./storage";
import { type Column, counter, Panel, Table } from "./table";
import { capturePast } from "./when";


function Rules({ r }: { r: Ring }) {
  const rules = r.rules ?? [];
  if (rules.length === 0) return <span class="line dim">everything in full</span>;
  return (
    <details>
      <summary>
        {rules.length === 1 ? "1 rule" : `${rules.length} rules`}, {count(r.discarded)} packets left out
      </summary>
      <ol>
        {rules.map((rule, i) => (
          <li key={i}>{ruleWords(rule)}</li>
        ))}
        <li>all others: in full</li>
      </ol>
    </details>
  );
}

const kinds: Record<Ring["state"], string> = { recording: "ok", creating: "dim", stopped: "warn", waiting: "warn", failed: "warn" };

// Why packets are missing, by what the API calls it.
const causes: Record<string, string> = {
  queue: "the disks were too slow",
  disk: "no disk took them",
  pinned: "everything is protected from being overwritten",
  format: "their interface could not be described",
};

const drops = (r: Ring) => Object.entries(r.dropped).filter(([, n]) => n > 0);
const dropped = (r: Ring) => drops(r).reduce((sum, [, n]) => sum + n, 0);
const copies = (r: Ring) => (r.replication ? ", each block twice" : "");

function State({ r }: { r: Ring }) {
  return (
    <>
      <span class="line">
        <strong class={kinds[r.state]}>{r.state}</strong>
        {r.state === "creating" && <span class="tabular"> {r.progress ?? 0} %</span>}
      </span>
      {r.reason && <span>{r.reason}</span>}
      {r.deviceStates.map((d) => (
        <span class="said" key={d.device} title={`${count(d.usedBytes)} of ${count(d.sizeBytes)} bytes`}>
          {deviceName(d.device)} <span class={d.state === "active" ? "dim" : "warn"}>{[d.state, d.reason].filter(Boolean).join(": ")}</span>
        </span>
      ))}
      {drops(r).map(([cause, n]) => (
        <span class="bad said" key={cause}>
          {count(n)} dropped ({cause}): {causes[cause] ?? "unknown cause"}
        </span>
      ))}
      {r.problems.map((p, i) => (
        <span class="warn said" key={i}>
          {sentence(p)}
        </span>
      ))}
    </>
  );
}

function Span({ r }: { r: Ring }) {
  if (r.oldest === undefined || r.newest === undefined || r.newest === 0) return <span class="dim">{r.state === "recording" ? "no packet yet" : "\u2013"}</span>;
  return (
    <>
      <span class="line tabular">{time(r.oldest)}</span>
      <span class="line tabular dim">to {time(r.newest)}</span>
    </>
  );
}

const columns: Column<Ring>[] = [
  {
    name: "Ring",
    cell: (r) => (
      <>
        <strong class="line">{r.name}</strong>
        <Rules r={r} />
        <Pins r={r} may={may("capture")} />
      </>
    ),
    exact: (r) => r.name,
  },
  { name: "State", cell: (r) => <State r={r} /> },
  { name: "Oldest and newest", kind: "mid", about: "packet that the ring has", cell: (r) => <Span r={r} /> },
  {
    name: "Used",
    kind: "num",
    about: "for packets and their indexes, of one copy",
    cell: (r) => (
      <>
        <span class="line">{bytes(r.usedBytes)}</span>
        <span class="line dim">of {bytes(r.usableBytes)}</span>
      </>
    ),
    exact: (r) => `${count(r.usedBytes)} of ${count(r.usableBytes)} bytes; ${bytes(r.sizeBytes)} on all devices together${copies(r)}`,
  },
  {
    name: "Recorded",
    kind: "num",
    about: "since the ring was created, and the rate now",
    cell: (r) => (
      <>
        <span class="line">{bytes(r.totalBytes)}</span>
        <span class="line dim">{live(`${bytes(r.byteRate)}/s`)}</span>
      </>
    ),
    exact: (r) => `${count(r.totalBytes)} bytes since the ring was created; ${count(r.packets)} packets since it was opened`,
  },
  counter("Dropped", "packets that are missing; the state says why", dropped, "loss"),
];

export function Rings({ rings }: { rings: Ring[] }) {
  const asked = useSignal<Ring | "new" | null>(null);
  const kept = useSignal<Ring | null>(null);
  const ruled = useSignal<Ring | null>(null);
  const admin = may("admin");
  const close = () => (asked.value = null);
  const look = (r: Ring) => {
    capturePast(r, Infinity);
    scrollTo({ top: 0 });
    focusFilter();
  };
  const act: Column<Ring> = {
    name: "Use",
    kind: "act",
    cell: (r) => (
      <>
        <button type="button" aria-label={`PCAP of ring ${r.name}`} disabled={!readable(r)} onClick={() => look(r)}>
          PCAP
        </button>
        {may("capture") && (
          <button type="button" aria-label={`Keep packets of ring ${r.name}`} disabled={!readable(r) || !r.newest} onClick={() => (kept.value = r)}>
            {"Keep\u2026"}
          </button>
        )}
        {admin && (
          <button type="button" aria-label={`Rules of ring ${r.name}`} disabled={r.state === "creating"} onClick={() => (ruled.value = r)}>
            {"Rules\u2026"}
          </button>
        )}
        {admin && (
          <button type="button" aria-label={`Delete ring ${r.name}`} onClick={() => (asked.value = r)}>
            {"Delete\u2026"}
          </button>
        )}
      </>
    ),
  };
  const side = admin && (
    <button type="button" onClick={() => (asked.value = "new")}>
      {"Create ring\u2026"}
    </button>
  );
  return (
    <Panel title="Packet ring buffers" side={side}>
      <Table
        label="Packet ring buffers"
        columns={[...columns, act]}
        rows={rings}
        id={(r) => r.name}
        empty="There is no packet ring buffer. Create one, and captures can begin in the past."
      />
      {kept.value !== null && <Keep r={kept.value} close={() => (kept.value = null)} />}
      {ruled.value !== null && <EditRules r={ruled.value} close={() => (ruled.value = null)} />}
      {asked.value === "new" && <NewRing close={close} />}
      {asked.value !== null && asked.value !== "new" && <Delete r={asked.value} close={close} />}
    </Panel>
  );
}

function Delete({ r, close }: { r: Ring; close: () => void }) {
  const typed = useSignal("");
  const done = async () => {
    await call("DELETE", `/rings/${encodeURIComponent(r.name)}`);
    void refreshDevices();
  };
  return (
    <Dialog title={`Delete the ring ${r.name}`} done={done} close={close} ready={typed.value === r.name} doing="Delete with all packets">
      <p class="warn">
        {r.oldest !== undefined && r.newest ? `Its packets of ${time(r.oldest)} to ${time(r.newest)} (${bytes(r.usedBytes)}) will be gone.` : "The ring will be gone."}
      </p>
      <label>
        <span>
          Type <strong>{r.name}</strong> to confirm
        </span>
        <input id="confirm" autocomplete="off" spellcheck={false} value={typed.value} onInput={(e) => (typed.value = e.currentTarget.value)} />
      </label>
    </Dialog>
  );
}
