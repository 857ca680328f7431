import type { Scan } from "./api";
import { bytes, count, sentence, time } from "./format";

const found = (s: Scan): [name: string, value: string][] => [
  ["Blocks read", `${count(s.read)} of ${count(s.blocks)}, ${bytes(s.bytes)}`],
  ["Packets looked at", `${count(s.packets)}, of which ${count(s.matched)} matched`],
  ["Never recognised", s.undecided > 0 ? `${count(s.undecided)} packets were left out, since the filter could not decide on their flows` : ""],
  ["Out of order", s.disorder > 0 ? `${count(s.disorder)} packets, since the reorder buffer was too small` : ""],
  ["Not in the ring", s.dropped > 0 ? `about ${count(s.dropped)} packets, since its disks or its queue could not take them` : ""],
  ["Lost before the ring", s.lost > 0 ? `about ${count(s.lost)} frames, since the device or its ports were too slow` : ""],
];

// covered says of what time the packets are.
const covered = (s: Scan) => (s.startTime !== undefined && s.endTime !== undefined ? `of ${time(s.startTime)} to ${time(s.endTime)}` : "of no time yet");

// Scanned says, unfolded, what a capture from a ring looked at. The time that it covers and what is missing is said always.
export function Scanned({ scan }: { scan: Scan }) {
  const gaps = scan.gaps ?? [];
  const missing = scan.dropped + scan.lost;
  return (
    <>
      <span class="line dim tabular">{covered(scan)}</span>
      {scan.empty && <span class="line warn">{sentence(scan.empty)}</span>}
      <details class="scan">
        <summary>
          {count(scan.read)} of {count(scan.blocks)} blocks read
          {missing > 0 && (
            <>
              , <strong class="bad">about {count(missing)} packets missing</strong>
            </>
          )}
          {gaps.length > 0 && (
            <>
              , <strong class="bad">{gaps.length === 1 ? "1 gap" : `${count(gaps.length)} gaps`}</strong>
            </>
          )}
        </summary>
        <dl>
          {found(scan)
            .filter(([, value]) => value !== "")
            .map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          {gaps.length > 0 && (
            <div>
              <dt>Packets may be missing</dt>
              {gaps.map((g, i) => (
                <dd class="bad" key={i}>
                  {time(g.startTime)} to {time(g.endTime)}: {g.reason}
                </dd>
              ))}
            </div>
          )}
        </dl>
      </details>
    </>
  );
}
