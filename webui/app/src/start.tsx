import { signal, useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { call, type CaptureCreated, type CaptureRequest } from "./api";
import { Limit, Select, Text } from "./fields";
import { check, checked, expression, slow } from "./filter";
import { sentence } from "./format";
import { attempt, contact, snapshot, user, view } from "./state";
import { devices } from "./storage";
import { Panel } from "./table";
import { Times, type When, when } from "./when";

const shown = 60; // characters
const whole = 65535; // bytes of a packet: all that it has
const most = { seconds: 1e9, megabytes: 1e9, packets: 1e15 }; // what the device takes, or more than anybody means

// around returns so much of a text as is shown beside what is wrong: its end, or its beginning.
function around(text: string, side: -1 | 1): string {
  const all = [...text];
  if (all.length <= shown) return text;
  return side < 0 ? `\u2026${all.slice(-shown).join("")}` : `${all.slice(0, shown).join("")}\u2026`;
}

// Verdict says what the filter means or where it is wrong. Positions are bytes of UTF-8.
function Verdict({ undecided }: { undecided: string }) {
  const c = check.value;
  const stale = !checked.value && (slow.value || contact.value === "lost");
  if (c === null || stale) return <p class="dim">{contact.value === "lost" ? "The filter is checked as soon as the device answers." : "Checking\u2026"}</p>;
  if (!c.error) {
    const fate = undecided === "hold" ? "wait for it" : "are not captured";
    return (
      <p>
        <span class="ok">{sentence(c.words)}.</span>
        {c.needsL7 && <span class="dim"> Packets that come before their flow is recognised {fate}.</span>}
      </p>
    );
  }
  const { pos, len, error, expected } = c.error;
  const b = new TextEncoder().encode(c.of);
  const cut = (from: number, to: number) => new TextDecoder().decode(b.slice(from, to));
  const before = cut(0, pos);
  const hints = (expected ?? []).some((x) => error.includes(x)) ? [] : (expected ?? []); // which the text may have named already
  return (
    <>
      <code class="marked" aria-hidden="true">
        {around(before, -1)}
        <mark>{around(cut(pos, pos + len), 1) || "\u2423"}</mark>
        {around(cut(pos + len, b.length), 1)}
      </code>
      <p class="bad">
        Column {[...before].length + 1}: {error}
        {hints.length > 0 && `; expected ${hints.slice(0, 12).join(", ")}${hints.length > 12 ? "\u2026" : ""}`}
      </p>
    </>
  );
}

// What was chosen, which outlives a login.
const undecided = signal("");
const snap = signal(""); // bytes
const format = signal("pcapng");
const seconds = signal("");
const megabytes = signal("");
const maxPackets = signal("");
const single = signal(false);
const comment = signal("");
const deviceInfo = signal(false);
const sink = signal("http");
const device = signal("");
const directory = signal("");
const fileName = signal("");
const splitMegabytes = signal("");
const splitSeconds = signal("");

// split says after what a new file begins; what is empty is as the configuration has it, and 0 is never.
function split(megabytes: string, seconds: string): { splitBytes?: number; splitSeconds?: number } {
  return {
    ...(megabytes !== "" && { splitBytes: Math.round(Number(megabytes) * 1e6) }),
    ...(seconds !== "" && { splitSeconds: Math.ceil(Number(seconds)) }),
  };
}

export function Start() {
  const busy = useSignal(false);

  const c = check.value;
  const wrong = Boolean(c?.error);
  const valid = checked.value && !wrong;
  const w: When = view.value === "" ? when() : {};
  const ready = valid && w.wrong === undefined;
  const source = view.value || w.ring?.name;
  const fate = undecided.value || usual(source);
  const active = devices.value.filter((d) => d.state === "active");
  const onDisk = sink.value === "disk" && active.length > 0;
  const target = active.some((d) => d.id === device.value) ? device.value : (active[0]?.id ?? "");
  const request: CaptureRequest = {
    expression: expression.value,
    undecided: fate,
    snapLength: Math.ceil(Number(snap.value)) || whole,
    format: format.value,
    maxSeconds: Math.ceil(Number(seconds.value)),
    maxBytes: Math.round(Number(megabytes.value) * 1e6),
    maxPackets: Math.ceil(Number(maxPackets.value)),
    useSingleInterface: single.value,
    comment: comment.value,
    deviceInfo: deviceInfo.value,
    fileName: fileName.value,
    sink: { type: onDisk ? "disk" : "http", ...(onDisk && { device: target, directory: directory.value, ...split(splitMegabytes.value, splitSeconds.value) }) },
    ...(source && { source }),
    ...(w.startTime !== undefined && { startTime: w.startTime }),
    ...(w.endTime !== undefined && { endTime: w.endTime }),
  };

  const parameters = asked(request, w);
  const more = parameters.filter(([name]) => !inSight.includes(name)).length;

  const start = async (e: Event) => {
    e.preventDefault();
    if (!ready || busy.value) return;
    busy.value = true;
    await attempt(async () => {
      const made = await call<CaptureCreated>("POST", "/captures", request);
      if (made.stream) download(made.stream);
    });
    busy.value = false;
  };
  const ctrlEnter = (e: KeyboardEvent & { currentTarget: HTMLFormElement }) => {
    if (!e.ctrlKey || e.key !== "Enter") return;
    e.preventDefault();
    e.currentTarget.requestSubmit();
  };
  // A field that is wrong must be in sight for the browser to say so.
  const unfold = (e: Event & { currentTarget: HTMLFormElement }) => {
    for (const d of e.currentTarget.querySelectorAll("details")) d.open = true;
  };

  return (
    <Panel title="Capture">
      <form onSubmit={start} onKeyDown={ctrlEnter} onInvalidCapture={unfold}>
        <label for="expression">
          <span>
            Expert filter <kbd>/</kbd>
          </span>
        </label>
        <div class="row wrap">
          <input
            id="expression"
            class={wrong ? "mono grow invalid" : "mono grow"}
            aria-invalid={wrong}
            aria-describedby="verdict"
            placeholder="everything, or for example: ip == 10.0.0.1 and port == 443"
            spellcheck={false}
            autocomplete="off"
            autocapitalize="off"
            value={expression.value}
            onInput={(e) => (expression.value = e.currentTarget.value)}
          />
          <button class="primary" disabled={!ready} aria-busy={busy.value} title="Ctrl+Enter">
            Start capture
          </button>
        </div>
        <div id="verdict" aria-live="polite" aria-busy={!checked.value}>
          <Verdict undecided={fate} />
        </div>
        {view.value === "" && <Times w={w} expression={expression.value} startable={valid} />}
        <details>
          <summary>More{more > 0 && `: ${more} set`}</summary>
          <div class="fields">
            {active.length > 0 && <Select label="Capture to" value={sink} options={[["http", "this browser"], ["disk", "storage device"]]} />}
            {onDisk && active.length > 1 && <Select label="Storage device" value={device} shown={target} options={active.map((d) => [d.id, d.name])} />}
            {onDisk && <Text label="Directory" value={directory} hint="top of the device" />}
            {onDisk && <Limit what="New file after MB" none="as set" most={most.megabytes} value={splitMegabytes} />}
            {onDisk && <Limit what="New file after seconds" none="as set" most={most.seconds} value={splitSeconds} />}
            <Text label="File name" value={fileName} hint="galvo_%Y-%m-%d_%H-%M-%S and filter" />
            <Limit what="Packet length, bytes" none="full" least={1} most={whole} offered={[64, 128, 256, 1500]} value={snap} />
            <Select label="Unrecognised flows" value={undecided} shown={fate} options={[["skip", "skip packets"], ["hold", "hold packets"]]} />
            <Select label="Format" value={format} options={[["pcapng", "pcapng"], ["pcap", "pcap, \u00b5s"], ["pcap-ns", "pcap, ns"]]} />
            <Limit what="Stop after seconds" most={most.seconds} value={seconds} />
            <Limit what="Stop after MB" most={most.megabytes} value={megabytes} />
            <Limit what="Stop after packets" most={most.packets} value={maxPackets} />
            <Text label="Comment" value={comment} />
            <label class="check">
              <input type="checkbox" checked={single.value} onChange={(e) => (single.value = e.currentTarget.checked)} />
              Omit interface ID
            </label>
            <label class="check" title="Its name and version, its memory and the filter">
              <input type="checkbox" checked={deviceInfo.value} onChange={(e) => (deviceInfo.value = e.currentTarget.checked)} />
              Device in comment
            </label>
          </div>
        </details>
        <Curl line={curl(request, parameters)} valid={ready} />
      </form>
    </Panel>
  );
}

// download lets the browser save a stream; a fetch would keep it in memory.
function download(path: string): void {
  const a = document.createElement("a");
  a.href = path;
  a.download = "";
  a.click();
}

// usual is what happens to packets that come before their flow is recognised: what is past can wait for that.
function usual(source: string | undefined): string {
  return source === undefined ? "skip" : "hold";
}

type Parameter = [name: string, value: string | number | boolean, plain: string | number | boolean];

// inSight are the parameters that the form shows always. The others are below More.
const inSight = ["expression", "fromCaptureBuffer", "ring", "startTime", "endTime", "mm-id"];

// asked returns the parameters of the capture URL that ask for more than a plain capture.
function asked(r: CaptureRequest, { ring }: When): Parameter[] {
  const several = (snapshot.value?.rings.length ?? 0) > 1;
  const all: Parameter[] = [
    ["expression", r.expression.trim(), ""],
    ["fromCaptureBuffer", ring !== undefined, false],
    ["ring", ring && several ? ring.name : "", ""],
    ["startTime", r.startTime ?? 0, 0],
    ["endTime", r.endTime ?? 0, 0],
    ["snapPacketLength", r.snapLength, whole],
    ["undecided", r.undecided, usual(r.source)],
    ["format", r.format, "pcapng"],
    ["maxBytes", r.maxBytes, 0],
    ["maxPackets", r.maxPackets, 0],
    ["maxSeconds", r.maxSeconds, 0],
    ["useSingleInterface", r.useSingleInterface, false],
    ["mm-id", r.source !== ring?.name ? (r.source ?? "") : "", ""],
    ["captureToMedia", r.sink.type === "disk", false],
    ["device", r.sink.device ?? "", ""],
    ["directory", r.sink.directory ?? "", ""],
    ["splitBytes", r.sink.splitBytes ?? "", ""],
    ["splitSeconds", r.sink.splitSeconds ?? "", ""],
    ["fileName", r.fileName, ""],
    ["comment", r.comment, ""],
    ["deviceInfo", r.deviceInfo, false],
  ];
  return all.filter(([, value, plain]) => value !== plain);
}

// curl is the command that captures the same into Wireshark.
function curl(r: CaptureRequest, parameters: Parameter[]): string {
  const quoted = (s: unknown) => encodeURIComponent(String(s)).replaceAll("'", "%27");
  const query = parameters.map(([name, value]) => `${name}=${quoted(value)}`);
  const url = [`${location.origin}/API/data/modules/capture`, ...(query.length > 0 ? [query.join("&")] : [])].join("?");
  const who = /^[\w.@-]+$/.test(user.value) ? user.value : `'${user.value.replaceAll("'", "'\\''")}'`;
  if (r.sink.type === "disk") return `curl -sSk -u ${who} '${url}'`;
  return `curl -fsSkN -u ${who} '${url}' | wireshark -k -i -`; // -f: a refusal goes to the terminal, not to Wireshark
}

function Curl({ line, valid }: { line: string; valid: boolean }) {
  const field = useRef<HTMLInputElement>(null);
  const said = useSignal({ of: "", text: "" });
  const copy = async () => {
    field.current?.select();
    try {
      await navigator.clipboard.writeText(line);
      said.value = { of: line, text: "Copied" };
    } catch {
      said.value = { of: line, text: "Press Ctrl+C" }; // the browser keeps the clipboard to itself; the line is selected
    }
  };
  return (
    <div class="row curl">
      <input ref={field} class="mono grow" readOnly aria-label="The same with curl" value={line} disabled={!valid} />
      <button type="button" onClick={copy} disabled={!valid}>
        {said.value.of === line ? said.value.text : "Copy"}
      </button>
    </div>
  );
}
