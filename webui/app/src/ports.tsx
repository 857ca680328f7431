import type { Port } from "./api";
import { narrow } from "./filter";
import { bits, bytes, count, packets, time } from "./format";
import { Num, Panel } from "./table";

function losses(p: Port): string {
  return p.gaps.map((g) => `${time(g.start)} to ${time(g.end)}: ${count(g.lost)} (${g.cause})`).join("\n");
}

export function Ports({ ports }: { ports: Port[] }) {
  return (
    <Panel
      title="Ports"
      head={["Id", "Name", "State", "#Rate", "#Packets/s", "#Packets", "#Bytes", "#Lost", "#Own", ""]}
      empty="No port is captured. Name one: galvo run -interface eth1, or a [[port]] in the configuration."
    >
      {ports.map((p) => (
        <tr key={p.id}>
          <td>{p.id}</td>
          <td title={p.driver}>
            {p.name}
            {p.link > 0 && <span class="dim"> link {p.link}</span>}
          </td>
          <td title={p.reason ?? ""}>
            <span class={p.state === "up" ? "state ok" : "state warn"}>{p.state}</span>{" "}
            <span class="dim">
              {p.speedMbps > 0 ? bits(p.speedMbps * 1e6) : ""} {p.direction === "both" ? "both directions" : ""} {p.state === "up" ? "" : p.reason}
            </span>
          </td>
          <Num value={bits(p.bitRate)} />
          <Num value={packets(p.packetRate)} />
          <Num value={count(p.rxPackets)} />
          <Num value={bytes(p.rxBytes)} exact={count(p.rxBytes) + " bytes"} />
          <Num value={count(p.lostNic + p.lostKernel)} loss={p.lostNic + p.lostKernel > 0} exact={losses(p)} />
          <Num value={count(p.ownPackets)} exact="frames of Galvo's own connections, left out" />
          <td class="num">
            <button type="button" onClick={() => narrow(`interface == ${p.id}`)}>
              PCAP
            </button>
          </td>
        </tr>
      ))}
    </Panel>
  );
}
