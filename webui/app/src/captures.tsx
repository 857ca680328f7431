import { call, type Capture } from "./api";
import { narrow } from "./filter";
import { bits, bytes, count, duration, time } from "./format";
import { say } from "./state";
import { Num, Panel } from "./table";

const counters = ["#Captured", "#Dropped", "#Ignored", "#Held", "#Lost", "#Bytes", "#Rate"];

function Counts({ c }: { c: Capture }) {
  return (
    <>
      <Num value={count(c.captured)} />
      <Num value={count(c.dropped)} loss={c.dropped > 0} exact="matched, and the destination was too slow or full" />
      <Num value={count(c.ignored)} exact="not matched, or no verdict yet" />
      <Num value={count(c.held)} exact="waiting for the verdict of their flow" />
      <Num value={count(c.lost)} loss={c.lost > 0} exact="gone before any filter saw them" />
      <Num value={bytes(c.bytes)} exact={count(c.bytes) + " bytes"} />
      <Num value={bits(c.bitRate)} />
    </>
  );
}

function Expression({ c }: { c: Capture }) {
  return (
    <td class="mono expression" title={c.expression}>
      {c.expression === "" ? <span class="dim">everything</span> : c.expression}
    </td>
  );
}

export function Captures({ captures }: { captures: Capture[] }) {
  return (
    <Panel title="Running captures" head={["Filter", "Client", "State", ...counters, ""]} empty="No capture is running. Start one above, or with the curl line.">
      {captures.map((c) => (
        <tr key={c.id}>
          <Expression c={c} />
          <td title={c.user}>
            {c.client} <span class="dim">{c.sink}</span>
          </td>
          <td>{c.state === "waiting" ? `waits until ${time(c.startTime)}` : duration(Date.now() * 1000 - c.startTime)}</td>
          <Counts c={c} />
          <td class="num">
            <button type="button" onClick={() => call("DELETE", `/captures/${encodeURIComponent(c.id)}`).catch(say)}>
              Stop
            </button>
          </td>
        </tr>
      ))}
    </Panel>
  );
}

export function Finished({ captures }: { captures: Capture[] }) {
  const clear = () => confirm("Delete the list of finished captures?") && call("DELETE", "/captures/finished").catch(say);
  const side =
    captures.length === 0 ? null : (
      <button type="button" onClick={clear}>
        Delete list
      </button>
    );
  return (
    <Panel title="Finished captures" head={["Filter", "Client", "Start", "Duration", "End", ...counters, ""]} side={side} empty="The last 100 captures that ended will be listed here.">
      {captures.map((c) => (
        <tr key={c.id}>
          <Expression c={c} />
          <td title={c.user}>
            {c.client} <span class="dim">{c.sink}</span>
          </td>
          <td class="nowrap">{time(c.startTime)}</td>
          <td class="nowrap">{duration((c.endTime ?? c.startTime) - c.startTime)}</td>
          <td>
            {c.state !== "finished" && <span class="state warn">{c.state}</span>} {c.reason}
          </td>
          <Counts c={c} />
          <td class="num">
            <button type="button" onClick={() => narrow(c.expression)}>
              Use filter
            </button>
          </td>
        </tr>
      ))}
    </Panel>
  );
}
