import type { Port } from "./api";
import { narrow } from "./filter";
import { bits, bytes, count, packets, time } from "./format";
import { live } from "./state";
import { type Column, counter, Panel, Table } from "./table";

const lost = (p: Port) => p.lostNic + p.lostKernel;

// Losses says, unfolded, when frames were lost, latest first.
function Losses({ p }: { p: Port }) {
  if (lost(p) === 0) return null;
  return (
    <details>
      <summary>
        lost by the NIC {count(p.lostNic)}, by kernel or engine {count(p.lostKernel)}
      </summary>
      <ul>
        {p.gaps.toReversed().map((g, i) => (
          <li key={i}>
            {time(g.start)} to {time(g.end)}: {count(g.lost)} ({g.cause})
          </li>
        ))}
      </ul>
    </details>
  );
}

function State({ p }: { p: Port }) {
  const notes = [
    p.speedMbps > 0 && bits(p.speedMbps * 1e6),
    p.duplex === "half" && "half duplex",
    p.link > 0 && `link ${p.link}${p.mode === "bridge" ? ", bridged" : ""}`,
    p.direction === "both" && "both directions",
    p.reason,
  ];
  return (
    <>
      <strong class={p.state === "up" ? "ok" : "warn"}>{p.state}</strong> <span class="dim">{notes.filter(Boolean).join(", ")}</span>
      <Losses p={p} />
    </>
  );
}

const columns: Column<Port>[] = [
  {
    name: "Port",
    cell: (p) => (
      <>
        {p.id} <strong>{p.name}</strong>
      </>
    ),
    exact: (p) => `${p.driver}, MTU ${p.mtu}`,
  },
  { name: "State", cell: (p) => <State p={p} /> },
  { name: "Rate", kind: "num", cell: (p) => live(bits(p.bitRate)) },
  { name: "Packet rate", kind: "num", about: "packets per second", cell: (p) => live(packets(p.packetRate)) },
  counter("Packets", "received, without those that were lost", (p) => p.rxPackets),
  { name: "Bytes", kind: "num", cell: (p) => bytes(p.rxBytes), exact: (p) => `${count(p.rxBytes)} bytes` },
  counter("Lost", "gone before any filter saw them; the state says when", lost, "loss"),
  counter("Own", "packets of Galvo's own connections, left out", (p) => p.ownPackets),
  {
    name: "PCAP",
    kind: "act",
    cell: (p) => (
      <button type="button" aria-label={`PCAP of port ${p.id}`} onClick={() => narrow(`interface == ${p.id}`)}>
        PCAP
      </button>
    ),
  },
];

export function Ports({ ports }: { ports: Port[] }) {
  const empty = "No port is captured. Name one: galvo run -interface eth1, or a [[port]] in the configuration.";
  return (
    <Panel title="Ports">
      <Table label="Ports" columns={columns} rows={ports} id={(p) => String(p.id)} empty={empty} />
    </Panel>
  );
}
