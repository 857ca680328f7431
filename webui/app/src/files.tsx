import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { away, call, type Directory, failureOf, type FileEntry, Refusal } from "./api";
import { bytes, count, time } from "./format";
import { analyse } from "./slots";
import { attempt, may, reason } from "./state";
import { devices, isFull, refreshDevices } from "./storage";
import { type Column, Panel, Table } from "./table";

const device = signal("");
const path = signal(""); // percent-encoded, as all paths are here that calls take: a name need not be text
const listed = signal<Directory | null>(null);
const unlisted = signal(""); // why there is no list
const chosen = signal<ReadonlySet<string>>(new Set());

const encoded = (p: string) => p.split("/").map(encodeURIComponent).join("/");
const placed = (f: FileEntry) => f.escaped ?? encoded(f.path);
const below = (name: string) => [path.value, encoded(name)].filter(Boolean).join("/");

function url(p: string): string {
  // The browser would resolve them, whatever their encoding, and ask for another place.
  if (p.split("/").some((n) => n === "." || n === "..")) throw new Error("a path may have neither . nor .. in it: go to the directory instead");
  return `/storage/${encodeURIComponent(device.value)}/files/${p}`;
}

// legible shows the control characters of a name, and the blanks at its ends, which are nothing to see, and by their numbers what turns the direction of text or is invisible.
const legible = (name: string) =>
  name
    .replace(/^ +| +$/g, (s) => "\u2423".repeat(s.length))
    .replace(/[\0-\x1f\x7f]/g, (c) => (c === "\x7f" ? "\u2421" : String.fromCharCode(0x2400 + c.charCodeAt(0))))
    .replace(/[\x80-\x9f\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => `<U+${c.codePointAt(0)?.toString(16).toUpperCase().padStart(4, "0")}>`);

// decoded is a percent-encoded name as a person reads it; one that is no text stays as it is.
function decoded(name: string): string {
  try {
    return legible(decodeURIComponent(name));
  } catch {
    return name;
  }
}

async function refresh(): Promise<void> {
  if (device.value === "" || !may("capture")) {
    listed.value = null;
    return;
  }
  const asked = url(path.value);
  try {
    const d = await call<Directory>("GET", asked);
    if (asked !== url(path.value)) return; // somebody has gone on meanwhile
    listed.value = d;
    chosen.value = new Set(d.files.map(placed).filter((p) => chosen.value.has(p)));
  } catch (e) {
    if (e instanceof Refusal && e.failure.kind === "unavailable") return; // which the page says already; the list stays
    if (e instanceof Refusal && e.status === 404 && path.value !== "") go("");
    else [listed.value, unlisted.value] = [null, reason(e)];
  }
}

function go(to: string): void {
  path.value = to;
  chosen.value = new Set();
  void refresh();
}

function choose(p: string, yes: boolean): void {
  const next = new Set(chosen.value);
  if (yes) next.add(p);
  else next.delete(p);
  chosen.value = next;
}

// change does something with files and shows what became of it.
async function change(what: () => Promise<unknown>): Promise<void> {
  await attempt(what);
  await refresh();
  void refreshDevices();
}

// Directories come first, and file 10 comes after file 9.
const names = new Intl.Collator("en", { numeric: true });
const inOrder = (a: FileEntry, b: FileEntry) => Number(b.type === "directory") - Number(a.type === "directory") || names.compare(a.name, b.name);

const columns: Column<FileEntry>[] = [
  {
    name: "Name",
    cell: (f) => (
      <span class="row">
        <input type="checkbox" aria-label={`Choose ${f.name}`} checked={chosen.value.has(placed(f))} onChange={(e) => choose(placed(f), e.currentTarget.checked)} />
        {f.type === "directory" ? (
          <button type="button" class="plain" onClick={() => go(placed(f))}>
            {legible(f.name)}/
          </button>
        ) : (
          <span>
            {legible(f.name)} {f.writing && <span class="dim">being written</span>}
            {f.type === "link" && <span class="dim">symbolic link, not followed</span>}
          </span>
        )}
      </span>
    ),
  },
  { name: "Bytes", kind: "num", cell: (f) => (f.type === "file" ? bytes(f.bytes) : ""), exact: (f) => `${count(f.bytes)} bytes` },
  { name: "Changed", kind: "mid", cell: (f) => <span class="tabular">{time(f.modified)}</span> },
  {
    name: "Get",
    kind: "act",
    cell: (f) =>
      f.type === "file" && (
        <a class="button" download={f.name} aria-label={`Download ${f.name}`} href={`/api/v1${url(placed(f))}`}>
          Download
        </a>
      ),
  },
];

const piece = 8 << 20; // bytes of an upload in one request
const tries = 10; // without progress
const pause = 2000; // ms between them

// begun returns how much of a file the device has from an upload that broke off, if that is to go on.
function begun(f: File): number {
  const part = listed.value?.files.find((x) => x.name === `${f.name}.part` && !x.writing);
  if (part === undefined || part.bytes === 0 || part.bytes > f.size) return 0;
  const question = `An upload of ${f.name} broke off after ${bytes(part.bytes)} of ${bytes(f.size)}. Go on there? Choose Cancel to begin again, if it was another file.`;
  return confirm(question) ? part.bytes : 0;
}

// upload sends a file in pieces from the byte at; what breaks off goes on where the device has come to.
async function upload(f: File, at: number, progress: (done: number) => void): Promise<void> {
  const to = `/api/v1${url(below(f.name))}`;
  for (let patience = tries; ; ) {
    const end = Math.min(at + piece, f.size);
    const failed = await fetch(`${to}?offset=${at}&total=${f.size}`, { method: "POST", headers: { "X-Requested-With": "galvo" }, body: f.slice(at, end) }).then(
      async (reply) => (reply.ok ? null : new Refusal(reply.status, failureOf(await reply.text(), reply))),
      away,
    );
    const has = Number(failed?.failure.expected?.[0]);
    if (failed === null) [at, patience] = [end, tries];
    else if (patience-- > 0 && Number.isInteger(has) && has !== at) at = has;
    else if (patience-- > 0 && failed.failure.kind === "unavailable") await new Promise((done) => setTimeout(done, pause));
    else throw failed;
    progress(at);
    if (failed === null && at === f.size) return;
  }
}

// asWhole names what will be deleted, and says whether there is anything in it.
function asWhole(files: FileEntry[]): string {
  const [f] = files;
  if (files.length !== 1 || f === undefined) return `${files.length} files and directories, with everything in them`;
  return f.type === "directory" ? `the directory ${legible(f.path)}, with everything in it` : legible(f.path);
}

const none = "There is no file here. Capture to this device, or upload a savefile.";

export function Files() {
  const busy = useSignal("");
  const active = devices.value.filter((d) => d.state === "active");
  const current = active.some((d) => d.id === device.value) ? device.value : (active[0]?.id ?? "");
  useEffect(() => {
    device.value = current;
    go("");
  }, [current]);
  useEffect(() => {
    const again = setInterval(() => !document.hidden && void refresh(), 3000);
    return () => clearInterval(again);
  }, []);
  if (active.length === 0 || !may("capture")) return null;

  const here = (listed.value?.files ?? []).filter((f) => chosen.value.has(placed(f)));
  const send = (files: File[]) =>
    change(async () => {
      for (const f of files) {
        await upload(f, begun(f), (done) => (busy.value = `${f.name}: ${f.size > 0 ? Math.floor((100 * done) / f.size) : 100} %`));
        await refresh();
      }
    }).finally(() => (busy.value = ""));
  const make = () => {
    const name = prompt("Name of the directory");
    if (name) void change(() => call("POST", `${url(below(name))}?directory=true`));
  };
  const rename = () => {
    const [f] = here;
    const to = f && prompt("New name, or path from the top of the device", f.path);
    if (to) void change(() => call("POST", `${url(placed(f))}?rename=${encodeURIComponent(to)}`));
  };
  const remove = () => {
    if (!confirm(`Delete ${asWhole(here)}?`)) return;
    void change(async () => {
      for (const f of here) await call("DELETE", `${url(placed(f))}?everything=true`);
    });
  };
  const read = () =>
    change(async () => {
      const nameless = here.find((f) => f.escaped !== undefined);
      if (nameless) throw new Error(`the name ${nameless.name} is not text, and cannot be told to an analysis: rename it first`);
      await analyse({ files: here.map((f) => ({ device: device.value, path: f.path })) });
      chosen.value = new Set();
    });

  const steps = path.value === "" ? [] : path.value.split("/");
  const side = (
    <span class={listed.value && isFull(listed.value) ? "bad tabular" : "dim tabular"} role="status">
      {busy.value || (listed.value && `${bytes(listed.value.freeBytes)} free`)}
    </span>
  );
  return (
    <Panel title="Files" side={side}>
      <div class="row wrap">
        {active.length > 1 && (
          <select aria-label="Storage device" value={current} onChange={(e) => ((device.value = e.currentTarget.value), go(""))}>
            {active.map((d) => (
              <option value={d.id} key={d.id}>
                {d.name}
              </option>
            ))}
          </select>
        )}
        <nav class="row wrap grow" aria-label="Path">
          <button type="button" class="plain" onClick={() => go("")}>
            {active.find((d) => d.id === current)?.name}
          </button>
          {steps.map((s, i) => (
            <span class="row" key={i}>
              /
              <button type="button" class="plain" onClick={() => go(steps.slice(0, i + 1).join("/"))}>
                {decoded(s)}
              </button>
            </span>
          ))}
        </nav>
        <button type="button" disabled={here.length === 0} onClick={read}>
          Analyse
        </button>
        <button type="button" disabled={here.length !== 1} onClick={rename}>
          Rename
        </button>
        <button type="button" disabled={here.length === 0} onClick={remove}>
          Delete
        </button>
        <button type="button" onClick={make}>
          New directory
        </button>
        <label class="button">
          Upload
          <input
            type="file"
            class="unseen"
            multiple
            disabled={busy.value !== ""}
            onChange={(e) => {
              void send([...(e.currentTarget.files ?? [])]);
              e.currentTarget.value = "";
            }}
          />
        </label>
      </div>
      <Table label="Files" columns={columns} few={50} rows={listed.value?.files.toSorted(inOrder) ?? []} id={placed} empty={listed.value ? none : unlisted.value} />
    </Panel>
  );
}
