import { useSignal } from "@preact/signals";
import { call, type CaptureCreated, type CaptureRequest } from "./api";
import { check, expression } from "./filter";
import { say } from "./state";

// Bytes of the expression that the error is about, shown in place. Positions are bytes of UTF-8.
function Marked({ text, pos, len }: { text: string; pos: number; len: number }) {
  const b = new TextEncoder().encode(text);
  const cut = (from: number, to: number) => new TextDecoder().decode(b.slice(from, to));
  const end = Math.max(pos + len, pos);
  return (
    <code class="marked" aria-hidden="true">
      {cut(0, pos)}
      <mark>{cut(pos, end) || "\u2423"}</mark>
      {cut(end, b.length)}
    </code>
  );
}

function Verdict() {
  const c = check.value;
  if (c === null) return <p class="dim verdict">Checking…</p>;
  if (c.error) {
    const expected = c.error.expected ?? [];
    return (
      <div class="verdict bad" role="alert" id="verdict">
        <Marked text={expression.value} pos={c.error.pos} len={c.error.len} />
        <p>
          Column {c.error.pos + 1}: {c.error.error}
          {expected.length > 0 && ` Expected: ${expected.slice(0, 12).join(", ")}.`}
        </p>
      </div>
    );
  }
  return (
    <p class="verdict ok" id="verdict">
      {c.words}
      {c.needsL7 && <span class="dim"> Packets before their flow is recognised are {"\u201c"}undecided{"\u201d"}: see More.</span>}
    </p>
  );
}

const lengths: [string, number][] = [
  ["Full length", 65535],
  ["64 bytes", 64],
  ["1500 bytes", 1500],
];

export function Start() {
  const undecided = useSignal("skip");
  const snap = useSignal(65535);
  const format = useSignal("pcapng");
  const seconds = useSignal("");
  const megabytes = useSignal("");
  const maxPackets = useSignal("");
  const single = useSignal(false);
  const comment = useSignal("");
  const ready = check.value !== null && !check.value.error;

  const request = (): CaptureRequest => ({
    expression: expression.value,
    undecided: undecided.value,
    snapLength: snap.value,
    format: format.value,
    maxSeconds: Math.round(Number(seconds.value) || 0),
    maxBytes: Math.round((Number(megabytes.value) || 0) * 1e6),
    maxPackets: Math.round(Number(maxPackets.value) || 0),
    useSingleInterface: single.value,
    comment: comment.value,
  });

  const start = async (e: Event) => {
    e.preventDefault();
    if (!ready) return;
    try {
      const made = await call<CaptureCreated>("POST", "/captures", request());
      if (made.stream) download(made.stream);
    } catch (err) {
      say(err);
    }
  };

  const number = (label: string, value: { value: string }, unit: string) => (
    <label>
      {label}
      <span class="unit">
        <input inputMode="decimal" size={7} value={value.value} placeholder="no limit" onInput={(e) => (value.value = e.currentTarget.value)} />
        {unit}
      </span>
    </label>
  );

  return (
    <section class="panel" aria-labelledby="start-title">
      <h2 id="start-title">Capture</h2>
      <form onSubmit={start} onKeyDown={(e) => e.ctrlKey && e.key === "Enter" && void start(e)}>
        <div class="row">
          <input
            id="expression"
            class={"mono grow" + (check.value?.error ? " invalid" : "")}
            aria-label="Filter expression"
            aria-invalid={check.value?.error ? "true" : "false"}
            aria-describedby="verdict"
            placeholder="everything, or for example: ip == 10.0.0.1 and port == 443"
            spellcheck={false}
            autocomplete="off"
            autocapitalize="off"
            value={expression.value}
            onInput={(e) => (expression.value = e.currentTarget.value)}
          />
          <button class="primary" disabled={!ready}>
            Start capture
          </button>
        </div>
        <Verdict />
        <details>
          <summary>More</summary>
          <div class="fields">
            <label>
              Packet length
              <select value={snap.value} onChange={(e) => (snap.value = Number(e.currentTarget.value))}>
                {lengths.map(([name, n]) => (
                  <option value={n} key={n}>
                    {name}
                  </option>
                ))}
              </select>
            </label>
            <label>
              Undecided packets
              <select value={undecided.value} onChange={(e) => (undecided.value = e.currentTarget.value)}>
                <option value="skip">skip</option>
                <option value="hold">hold until the verdict</option>
              </select>
            </label>
            <label>
              Format
              <select value={format.value} onChange={(e) => (format.value = e.currentTarget.value)}>
                <option value="pcapng">pcapng</option>
                <option value="pcap">pcap, microseconds</option>
                <option value="pcap-ns">pcap, nanoseconds</option>
              </select>
            </label>
            {number("Stop after", seconds, "s")}
            {number("or", megabytes, "MB")}
            {number("or", maxPackets, "packets")}
            <label class="check">
              <input type="checkbox" checked={single.value} onChange={(e) => (single.value = e.currentTarget.checked)} />
              Omit interface ID
            </label>
            <label class="grow">
              Comment
              <input value={comment.value} onInput={(e) => (comment.value = e.currentTarget.value)} />
            </label>
          </div>
        </details>
        <Curl request={request()} valid={ready} />
      </form>
    </section>
  );
}

// download lets the browser save a stream; a fetch would keep it in memory.
function download(path: string): void {
  const a = document.createElement("a");
  a.href = path;
  a.download = "";
  a.click();
}

function Curl({ request, valid }: { request: CaptureRequest; valid: boolean }) {
  const query = new Map<string, string>();
  if (request.expression.trim() !== "") query.set("expression", request.expression);
  if (request.snapLength !== 65535) query.set("snapPacketLength", String(request.snapLength));
  if (request.undecided !== "skip") query.set("undecided", request.undecided);
  if (request.format !== "pcapng") query.set("format", request.format);
  if (request.maxBytes > 0) query.set("maxBytes", String(request.maxBytes));
  if (request.maxPackets > 0) query.set("maxPackets", String(request.maxPackets));
  if (request.useSingleInterface) query.set("useSingleInterface", "true");
  const text = [...query].map(([k, v]) => `${k}=${encodeURIComponent(v).replaceAll("'", "%27")}`).join("&");
  const url = `${location.origin}/API/data/modules/capture${text === "" ? "" : "?" + text}`;
  const limit = request.maxSeconds > 0 ? `--max-time ${request.maxSeconds} ` : "";
  const line = `curl -skN ${limit}-u admin '${url}' | wireshark -k -i -`;
  const copied = useSignal(false);
  const copy = async () => {
    await navigator.clipboard.writeText(line);
    copied.value = true;
    setTimeout(() => (copied.value = false), 1500);
  };
  return (
    <div class={"row curl" + (valid ? "" : " dim")}>
      <code class="grow">{line}</code>
      <button type="button" onClick={copy} disabled={!valid}>
        {copied.value ? "Copied" : "Copy"}
      </button>
    </div>
  );
}
