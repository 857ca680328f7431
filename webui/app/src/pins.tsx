// Pins: times of a ring whose packets are not overwritten for a while.

import { useSignal } from "@preact/signals";
import { call, type Ring } from "./api";
import { Time, timeField, timeOf } from "./fields";
import { time } from "./format";
import { attempt, snapshot } from "./state";
import { Dialog } from "./storage";

const second = 1e6; // microseconds
const day = 86400 * second;

const protect = (r: Ring, startTime: number, endTime: number, until: number) => call("POST", `/rings/${encodeURIComponent(r.name)}/pins`, { startTime, endTime, until });

// Keep asks for an interval. It begins with the last five minutes that the ring has, and a week.
export function Keep({ r, close }: { r: Ring; close: () => void }) {
  const oldest = r.oldest ?? 0;
  const newest = Math.ceil(((r.newest ?? 0) + 1) / second) * second; // the end is not part of the interval
  const from = useSignal(timeField(Math.max(oldest, newest - 300 * second)));
  const to = useSignal(timeField(newest));
  const partial = [useSignal(false), useSignal(false), useSignal(false)] as const;
  const now = snapshot.value?.time ?? 0; // the device's, since the browser's may be another
  const until = useSignal(timeField(now + 7 * day));
  const start = timeOf(from.value);
  const end = timeOf(to.value, "later");
  const over = timeOf(until.value, "later");
  const whole = start !== undefined && end !== undefined && over !== undefined;
  const wrong = !whole ? "Fill in all of the three times." : end <= start ? "The end is not after the start." : over <= now ? "The protection would be over already." : "";
  const done = async () => {
    if (whole) await protect(r, start, end, over);
  };
  return (
    <Dialog title={`Keep packets of the ring ${r.name}`} done={done} close={close} ready={whole && wrong === ""} doing="Keep them">
      <p>Packets of this time are not overwritten, and recording goes on in the rest of the ring. Whole segments are kept.</p>
      <Time label="From" value={from} partial={partial[0]} wrong={start === undefined} about="kept" />
      <Time label="To" value={to} partial={partial[1]} which="later" wrong={end === undefined || (start !== undefined && end <= start)} about="kept" />
      <Time label="Keep until" value={until} partial={partial[2]} which="later" wrong={over === undefined || over <= now} about="kept" />
      <p class="bad" role="alert" id="kept">
        {wrong}
      </p>
    </Dialog>
  );
}

// Pins lists what is kept, for who may with a way to end it.
export function Pins({ r, may }: { r: Ring; may: boolean }) {
  return (
    <>
      {r.pins.map((p) => {
        const span = `${time(p.startTime)} to ${time(p.endTime)}`;
        return (
          <span class="dim said" key={`${p.startTime} ${p.until}`}>
            kept until {time(p.until)}: {span}{" "}
            {may && (
              <button type="button" aria-label={`Release ${span} of ring ${r.name}`} onClick={() => attempt(() => protect(r, p.startTime, p.endTime + 1, 1))}>
                Release
              </button>
            )}
          </span>
        );
      })}
    </>
  );
}
