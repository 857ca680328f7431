import type { Protocol } from "./api";
import { narrow } from "./filter";
import { bits, bytes, count } from "./format";
import { Num, Panel } from "./table";

const layers = { mac: "MAC", l4: "Layer 4", l7: "Layer 7" };

export function Protocols({ protocols }: { protocols: Protocol[] }) {
  const rows = (Object.keys(layers) as (keyof typeof layers)[]).flatMap((layer) =>
    protocols.filter((p) => p.layer === layer).sort((a, b) => b.bytes - a.bytes || a.name.localeCompare(b.name)),
  );
  return (
    <Panel title="Protocols" head={["Layer", "Protocol", "#Rate", "#Packets", "#Bytes", ""]} empty="No packet was seen yet.">
      {rows.map((p) => (
        <tr key={p.layer + p.name}>
          <td class="dim">{layers[p.layer]}</td>
          <td>{p.name}</td>
          <Num value={bits(p.bitRate)} />
          <Num value={count(p.packets)} />
          <Num value={bytes(p.bytes)} exact={count(p.bytes) + " bytes"} />
          <td class="num">
            <button type="button" onClick={() => narrow(p.filter)}>
              PCAP
            </button>
          </td>
        </tr>
      ))}
    </Panel>
  );
}
