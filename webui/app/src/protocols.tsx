import type { Protocol } from "./api";
import { narrow } from "./filter";
import { bits, bytes, count } from "./format";
import { live } from "./state";
import { type Column, counter, Panel, Table } from "./table";

const columns = (layer: string): Column<Protocol>[] => [
  { name: layer, cell: (p) => <span class="line">{p.name}</span>, exact: (p) => p.name },
  { name: "Rate", kind: "num", cell: (p) => live(bits(p.bitRate)) },
  counter("Packets", "since the processing started", (p) => p.packets),
  { name: "Bytes", kind: "num", cell: (p) => bytes(p.bytes), exact: (p) => `${count(p.bytes)} bytes` },
  {
    name: "PCAP",
    kind: "act",
    cell: (p) => (
      <button type="button" aria-label={`PCAP of ${p.name}`} onClick={() => narrow(p.filter)}>
        PCAP
      </button>
    ),
  },
];

const layers = { mac: columns("MAC"), l4: columns("Layer 4"), l7: columns("Layer 7") };

// Fault says that packets were not recognised because of a fault of ours. They are in all counts, as Unknown.
function Fault({ panics }: { panics: number }) {
  if (panics === 0) return null;
  const packets = panics === 1 ? "One packet" : `${count(panics)} packets`;
  return (
    <p class="note warn said" id="panics">
      {packets} went on without an application protocol, because of a fault in Galvo. The log has the flow and the first bytes: please report it.
    </p>
  );
}

export function Protocols({ protocols, panics }: { protocols: Protocol[]; panics: number }) {
  const table = (layer: keyof typeof layers, label: string) => {
    const rows = protocols.filter((p) => p.layer === layer).sort((a, b) => b.bytes - a.bytes || a.name.localeCompare(b.name));
    return <Table label={label} columns={layers[layer]} few={20} rows={rows} id={(p) => p.name} empty="No packet was seen yet." />;
  };
  return (
    <Panel title="Protocols">
      <Fault panics={panics} />
      <div class="pair">
        <div>
          {table("mac", "MAC protocols")}
          {table("l4", "Layer 4 protocols")}
        </div>
        <div>{table("l7", "Layer 7 protocols")}</div>
      </div>
    </Panel>
  );
}
