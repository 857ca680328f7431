// What a capture is of: the live traffic or a packet ring buffer, and from when to when. Other parts of the page may choose a ring.

import { computed, signal, useSignal } from "@preact/signals";
import { call, readable, type DryRun, type Ring } from "./api";
import { Select, Time, timeField, timeOf } from "./fields";
import { bytes, count, duration, sentence, time } from "./format";
import { analyse } from "./slots";
import { attempt, may, snapshot } from "./state";

const chosen = signal(""); // name of a ring; "" is the live traffic
const from = signal(""); // as the field writes it, in the browser's zone; "" is now, or the oldest packet of a ring
const until = signal(""); // likewise; "" is until it is stopped
const fromPartial = signal(false);
const untilPartial = signal(false);

const second = 1e6; // microseconds, as all times of the device

const rings = () => snapshot.value?.rings ?? [];
const whole = (us: number) => Math.floor(us / second) * second;

// A When is what the fields say, and what is wrong with that.
export interface When {
  ring?: Ring;
  startTime?: number;
  endTime?: number;
  wrong?: { field: "source" | "start" | "end"; text: string };
}

// source is the ring to capture from; "" is the live traffic.
export const source = computed(() => rings().find((r) => r.name === chosen.value && readable(r))?.name ?? "");

// when reads the fields. now is the device's time, since the browser's may be another.
export function when(): When {
  const ring = rings().find((r) => r.name === chosen.value);
  const startTime = timeOf(from.value);
  const endTime = timeOf(until.value, "later");
  const wrong = refused(ring, startTime, endTime, snapshot.value?.time ?? 0);
  return { ...(ring && { ring }), ...(startTime !== undefined && { startTime }), ...(endTime !== undefined && { endTime }), ...(wrong && { wrong }) };
}

const incomplete = (which: string) => `The ${which} time is not complete: fill in all of date and time, or delete it.`;

function refused(ring: Ring | undefined, start: number | undefined, end: number | undefined, now: number): When["wrong"] {
  if (fromPartial.value) return { field: "start", text: incomplete("start") };
  if (untilPartial.value) return { field: "end", text: incomplete("end") };
  if (ring && !readable(ring)) {
    return { field: "source", text: `The ring ${ring.name} cannot be read: it is ${ring.state}${ring.reason ? `, ${ring.reason}` : ""}.` };
  }
  if (ring?.oldest !== undefined && start !== undefined && start < whole(ring.oldest)) {
    return { field: "start", text: `The oldest packet of ${ring.name} is of ${time(ring.oldest)}. Without a start time the capture begins there.` };
  }
  if (!ring && start !== undefined && start < whole(now)) {
    const way = rings().length > 0 ? "choose a ring as the source" : "create a packet ring buffer to keep it from now on";
    return { field: "start", text: `The start is in the past: ${way}, or leave the start empty.` };
  }
  if (end !== undefined && end <= (start ?? ring?.oldest ?? -Infinity)) return { field: "end", text: start === undefined ? `The ring ${ring?.name} has nothing from before the end: its oldest packet is of ${time(ring?.oldest ?? 0)}.` : "The end is not after the start." };
  if (!ring && end !== undefined && end <= now) return { field: "end", text: "The end is in the past: choose a later one, or leave it empty." };
  return undefined;
}

// capturePast puts the last seconds of a ring into the form. The end is the next whole second, so that nothing of the last one is left out.
export function capturePast(r: Ring, seconds: number): void {
  const now = snapshot.value?.time ?? 0;
  const start = whole(now - Math.min(seconds * second, now));
  chosen.value = r.name;
  from.value = start > (r.oldest ?? 0) ? timeField(start) : "";
  until.value = timeField(whole(now) + second);
  fromPartial.value = untilPartial.value = false;
}

function captureLive(): void {
  chosen.value = from.value = until.value = "";
  fromPartial.value = untilPartial.value = false;
}

const steps: [text: string, seconds: number][] = [
  ["1 min", 60],
  ["5 min", 300],
  ["15 min", 900],
  ["1 h", 3600],
  ["6 h", 21600],
  ["24 h", 86400],
];

function Quick({ ring }: { ring: Ring }) {
  return (
    <div class="row wrap" role="group" aria-label="Times">
      <span class="dim">Last</span>
      {steps.map(([text, seconds]) => (
        <button type="button" aria-label={`Last ${text}`} key={text} onClick={() => capturePast(ring, seconds)}>
          {text}
        </button>
      ))}
      <button type="button" onClick={() => capturePast(ring, Infinity)}>
        All recorded
      </button>
      <button type="button" onClick={captureLive}>
        Live
      </button>
    </div>
  );
}

// words say what the times mean.
function words({ ring, startTime, endTime }: When): string {
  const end = endTime === undefined ? "until it is stopped" : `until ${time(endTime)}`;
  if (startTime !== undefined) return `${ring ? `From ring ${ring.name}` : "Live"} from ${time(startTime)} ${end}.`;
  if (!ring) return `Live from now ${end}.`;
  return `From ring ${ring.name} from its oldest packet${ring.oldest === undefined ? "" : `, of ${time(ring.oldest)},`} ${end}.`;
}

// Times asks for the source and the times of a capture. startable says whether the filter is right.
export function Times({ w, expression, startable }: { w: When; expression: string; startable: boolean }) {
  const all = rings();
  const one = w.ring ?? all.find(readable);
  const options: [string, string][] = all.map((r) => [r.name, `ring ${r.name}${r.state === "recording" ? "" : ` (${r.state})`}`]);
  return (
    <>
      <div class="row wrap times">
        {all.length > 0 && <Select label="Source" value={chosen} options={[["", "live traffic"], ...options]} />}
        <Time label="Start time" value={from} partial={fromPartial} min={w.ring?.oldest && whole(w.ring.oldest)} wrong={w.wrong?.field === "start"} about="when" />
        <Time label="End time" value={until} partial={untilPartial} which="later" wrong={w.wrong?.field === "end"} about="when" />
        {one && <Quick ring={one} />}
      </div>
      <div class="row wrap" id="when">
        {w.wrong ? (
          <p class="bad" role="alert">
            {w.wrong.text}
          </p>
        ) : (
          <p class="dim">{words(w)}</p>
        )}
        {w.ring && <Trial ring={w.ring} w={w} expression={expression} startable={startable} />}
      </div>
    </>
  );
}

// Trial is the dry run, what a capture from a ring would bring, and the analysis of all that the ring has.
function Trial({ ring, w, expression, startable }: { ring: Ring; w: When; expression: string; startable: boolean }) {
  const answer = useSignal({ to: "", text: "", refused: false });
  const question = { expression, startTime: w.startTime ?? 0, endTime: w.endTime ?? 0 };
  const read = () => attempt(() => analyse({ ring: { name: ring.name, startTime: question.startTime, endTime: question.endTime } }));
  const asked = JSON.stringify([ring.name, question]);
  const ask = async () => {
    answer.value = { to: asked, text: "Looking\u2026", refused: false };
    let said: { text: string; refused: boolean };
    try {
      const d = await call<DryRun>("POST", `/rings/${encodeURIComponent(ring.name)}/dryrun`, question);
      said = { text: expected(d), refused: false };
    } catch (e) {
      said = { text: sentence(e instanceof Error ? e.message : String(e)), refused: true };
    }
    if (answer.value.to === asked) answer.value = { to: asked, ...said };
  };
  return (
    <>
      <button type="button" disabled={!startable || w.wrong !== undefined} onClick={ask}>
        Dry run
      </button>
      {may("capture") && (
        <button type="button" title="Statistics of everything that the ring has of this time, whatever the filter" disabled={w.wrong !== undefined} onClick={read}>
          Analyse
        </button>
      )}
      <p class={answer.value.refused ? "bad" : "tabular"} role="status" id="dryrun">
        {answer.value.to === asked && answer.value.text}
      </p>
    </>
  );
}

function expected(d: DryRun): string {
  if (d.packets === 0) {
    const looked = d.exact ? "" : ` ${count(d.sampled)} of the ${count(d.blocks)} blocks to read were looked at.`;
    return `No packet matches: ${d.empty ?? "no block has what is asked for"}.${looked}${besides(d)}`;
  }
  const about = d.exact ? "" : "About ";
  const within = d.error === 0 ? "" : ` \u00b1 ${count(d.error)}`;
  const span = d.startTime !== undefined && d.endTime !== undefined ? `, from ${time(d.startTime)} to ${time(d.endTime)}` : "";
  const looked = d.exact ? "" : `, of which ${count(d.sampled)} were looked at`;
  const takes = d.seconds < 0.1 ? "less than 0.1 s" : duration(d.seconds * second);
  return `${about}${count(d.packets)}${within} packets, ${bytes(d.bytes)}, in ${takes}${span}; ${count(d.blocks)} blocks of 1 MiB to read${looked}.${besides(d)}`;
}

// besides says what a dry run cannot know, though it has looked at everything: what depends on packets before.
const besides = (d: DryRun) => (!d.exact && d.sampled === d.blocks ? " Media of calls, and what is spread over several segments, may come besides." : "");
