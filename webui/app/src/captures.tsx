import { call, type Capture } from "./api";
import { narrow } from "./filter";
import { bits, bytes, count, duration, sentence, time } from "./format";
import { Scanned } from "./scan";
import { attempt, may } from "./state";
import { deviceName } from "./storage";
import { type Column, counter, Panel, Table } from "./table";

const id = (c: Capture) => c.id;
const named = (c: Capture) => (c.expression === "" ? "everything" : c.expression);

// destination says where the packets go, and where they come from unless that is the live traffic.
function destination(c: Capture): string {
  const from = c.source === "live" ? "" : c.source.startsWith(":") ? `slot ${c.source.slice(1)} to ` : `ring ${c.source} to `;
  if (c.sink !== "disk") return from + c.sink;
  const path = [c.directory, c.fileName].filter(Boolean).join("/");
  return `${from}${path} on ${deviceName(c.device ?? "")}${(c.files ?? 1) > 1 ? `, file ${c.files}` : ""}`;
}

// filled says that a capture ended because its storage device was full, which nobody asked for.
function filled(c: Capture): string {
  if (c.reason !== "storage full") return "";
  const missing = c.dropped > 0 ? `: ${count(c.dropped)} packets that matched are not in the file` : "";
  return `Stopped: the storage device ${deviceName(c.device ?? "")} was full${missing}`;
}

const filter: Column<Capture> = {
  name: "Filter",
  cell: (c) => (
    <>
      <code class="brief">{named(c)}</code>
      <span class="line dim">
        {c.user} from {c.client}, {destination(c)}
      </span>
      {filled(c) && <strong class="said bad">{filled(c)}</strong>}
      {c.scan && <Scanned scan={c.scan} />}
      {c.empty && <span class="line warn">{sentence(c.empty)}</span>}
      {c.forgotten ? <span class="said bad">{count(c.forgotten)} TCP packets were judged without what came before in their stream</span> : null}
    </>
  ),
  exact: (c) => [c.expression, destination(c)].filter(Boolean).join("\n"),
};

const counters: Column<Capture>[] = [
  counter("Captured", "matched and delivered", (c) => c.captured),
  counter("Dropped", "matched, and the destination was too slow or full", (c) => c.dropped, "loss"),
  counter("Ignored", "not matched, or no verdict yet", (c) => c.ignored),
  counter("Held", "waiting for the verdict of their flow", (c) => c.held),
  counter("Lost", "gone before any filter saw them", (c) => c.lost, "loss"),
  {
    name: "Bytes",
    kind: "num",
    about: "of captured packets, and their rate",
    cell: (c) => (
      <>
        <span class="line">{bytes(c.bytes)}</span>
        <span class="line dim">{bits(c.bitRate)}</span>
      </>
    ),
    exact: (c) => `${count(c.bytes)} bytes`,
  },
];

// running says since when; now is the device's time, since the browser's may be another.
function running(c: Capture, now: number): string {
  if (c.state !== "waiting") return duration(now - c.startTime);
  return c.startTime > now ? `starts ${time(c.startTime)}` : "waits for its client";
}

// ended says how the last capture ended, near to where it was started: one from the past may run for a moment only.
function ended(c: Capture): string {
  const packets = [`captured ${count(c.captured)}`, c.dropped > 0 && `dropped ${count(c.dropped)}`, c.lost > 0 && `lost ${count(c.lost)}`];
  const empty = c.scan?.empty ?? c.empty;
  const why = [c.state !== "finished" && c.state, empty, c.reason !== empty && c.reason];
  return [packets, why].map((part) => part.filter(Boolean).join(", ")).join("; ");
}

interface CapturesProps {
  captures: Capture[];
  last: Capture | undefined; // to end
  now: number;
}

export function Captures({ captures, last, now }: CapturesProps) {
  const stop = (c: Capture) => attempt(() => call("DELETE", `/captures/${encodeURIComponent(c.id)}`));
  const columns: Column<Capture>[] = [
    filter,
    { name: "Running for", kind: "mid", cell: (c) => <span class="tabular">{running(c, now)}</span> },
    ...counters,
    {
      name: "Stop",
      kind: "act",
      cell: (c) => (
        <button type="button" aria-label={`Stop ${named(c)}`} onClick={() => stop(c)}>
          Stop
        </button>
      ),
    },
  ];
  return (
    <Panel title="Running captures">
      <Table label="Running captures" columns={columns} rows={captures} id={id} empty="No capture is running. Start one above, or with the curl line." />
      <p class="brief dim" role="status" id="last">
        {last && (
          <>
            Ended last, at {time(last.endTime ?? last.startTime)}: <code>{named(last)}</code> {ended(last)}
            {filled(last) && <strong class="said bad">{filled(last)}</strong>}
          </>
        )}
      </p>
    </Panel>
  );
}

const past: Column<Capture>[] = [
  filter,
  {
    name: "Start and end",
    kind: "mid",
    cell: (c) => (
      <>
        <span class="line tabular">{time(c.startTime)}</span>
        <span class="dim">{duration((c.endTime ?? c.startTime) - c.startTime)}, </span>
        {c.state !== "finished" && <strong class="warn">{c.state}: </strong>}
        {c.reason}
      </>
    ),
    exact: (c) => `until ${time(c.endTime ?? c.startTime)}`,
  },
  ...counters,
  {
    name: "Use",
    kind: "act",
    cell: (c) => (
      <button type="button" aria-label={`Use filter ${named(c)}`} onClick={() => narrow(c.expression)}>
        Use filter
      </button>
    ),
  },
];

export function Finished({ captures }: { captures: Capture[] }) {
  const clear = () => confirm("Delete the list of finished captures?") && attempt(() => call("DELETE", "/captures/finished"));
  const side = may("capture") && (
    <button type="button" onClick={clear} disabled={captures.length === 0}>
      Delete list
    </button>
  );
  return (
    <Panel title="Finished captures" side={side}>
      <Table label="Finished captures" columns={past} few={10} rows={captures} id={id} empty="The last 100 captures that ended will be listed here." />
    </Panel>
  );
}
