import { signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { call, type Storage } from "./api";
import { bytes, count } from "./format";
import { attempt, may, notice, reason, say, snapshot } from "./state";
import { type Column, Panel, Table } from "./table";

// devices is what the device has to store on. It is asked for now and then: the events are the engine's, and disks are not.
export const devices = signal<Storage[]>([]);
const known = signal(false); // whether the device has said what there is

export const deviceName = (id: string) => devices.value.find((d) => d.id === id)?.name ?? id;

// ringsOn names the rings that have blocks on a device.
function ringsOn(d: Storage): string {
  const names = (snapshot.value?.rings ?? []).filter((r) => r.devices?.includes(d.id)).map((r) => r.name);
  return names.length > 0 ? `${names.length === 1 ? "the ring" : "the rings"} ${names.join(", ")}` : "";
}

const period = 3000; // ms

export async function refreshDevices(): Promise<void> {
  try {
    devices.value = (await call<{ devices: Storage[] }>("GET", "/storage")).devices;
    known.value = true;
  } catch (e) {
    if (devices.value.length === 0) say(e);
  }
}

async function change(d: Storage, what: string, body?: unknown): Promise<void> {
  try {
    await call("POST", `/storage/${encodeURIComponent(d.id)}/${what}`, body);
  } finally {
    await refreshDevices();
  }
}

const leastRoom = 1e6; // bytes that a capture to a device needs to begin

export const isFull = (d: Pick<Storage, "freeBytes">) => d.freeBytes < leastRoom;

const kinds: Record<string, string> = { active: "ok", inactive: "dim", system: "dim" };

function State({ d }: { d: Storage }) {
  return (
    <>
      <strong class={kinds[d.state] ?? "warn"}>{d.state}</strong>
      {d.state === "formatting" && ` ${d.progress ?? 0} %`}
      {d.state === "active" && isFull(d) && <strong class="bad">, no room for captures</strong>}
      <span class="dim"> {[d.encrypted && "encrypted", d.reason].filter(Boolean).join(", ")}</span>
    </>
  );
}

const columns: Column<Storage>[] = [
  {
    name: "Device",
    cell: (d) => (
      <>
        <strong class="line">{d.name}</strong>
        <span class="line dim">{[d.path, d.model, d.serial, d.transport !== "other" && d.transport].filter(Boolean).join(", ")}</span>
      </>
    ),
    exact: (d) => d.id,
  },
  { name: "State", cell: (d) => <State d={d} /> },
  {
    name: "Health",
    kind: "num",
    cell: (d) => (d.health === "failing" ? <strong class="bad">{d.health}</strong> : d.health),
    exact: (d) => d.healthNote,
  },
  { name: "Free", kind: "num", cell: (d) => (d.state === "active" ? bytes(d.freeBytes) : "\u2013"), exact: (d) => `${count(d.freeBytes)} bytes` },
  { name: "Rings", kind: "num", about: "what packet ring buffers take", cell: (d) => (d.state === "active" ? bytes(d.ringBytes) : "\u2013"), exact: (d) => `${d.ringShare} % of the device are meant for rings` },
  { name: "Size", kind: "num", cell: (d) => (d.bytes > 0 ? bytes(d.bytes) : "\u2013"), exact: (d) => `${count(d.bytes)} bytes` },
];

// An Asked is a device about which a dialog asks something.
interface Asked {
  device: Storage;
  what: "unlock" | "format";
}

const none = "There is no storage device. Plug in a disk, or name a directory as [[storage]] in the configuration.";

export function StorageDevices() {
  const asked = useSignal<Asked | null>(null);
  useEffect(() => {
    void refreshDevices();
    const again = setInterval(() => !document.hidden && void refreshDevices(), period);
    return () => clearInterval(again);
  }, []);
  const act: Column<Storage> = {
    name: "Use",
    kind: "act",
    cell: (d) => may("admin") && <Action d={d} ask={(what) => (asked.value = { device: d, what })} />,
  };
  return (
    <Panel title="Storage">
      <Table label="Storage" columns={[...columns, act]} rows={devices.value} id={(d) => d.id} empty={known.value ? none : "Looking\u2026"} />
      {asked.value?.what === "format" && <Format d={asked.value.device} close={() => (asked.value = null)} />}
      {asked.value?.what === "unlock" && <Unlock d={asked.value.device} close={() => (asked.value = null)} />}
    </Panel>
  );
}

function Action({ d, ask }: { d: Storage; ask: (what: Asked["what"]) => void }) {
  const rings = ringsOn(d);
  const deactivate = () => {
    const question = `Deactivate ${d.name}? Captures to it end${rings && `, and ${rings} can neither record to it nor be read from it`}.`;
    if (confirm(question)) void attempt(() => change(d, "deactivate"));
  };
  const formattable = d.kind === "disk" && ["inactive", "locked", "unformatted", "foreign", "failed"].includes(d.state);
  return (
    <>
      {d.state === "active" && (
        <button type="button" aria-label={`Deactivate ${d.name}`} onClick={deactivate}>
          Deactivate
        </button>
      )}
      {d.state === "inactive" && (
        <button type="button" aria-label={`Activate ${d.name}`} onClick={() => attempt(() => change(d, "activate"))}>
          Activate
        </button>
      )}
      {d.state === "locked" && (
        <button type="button" aria-label={`Activate ${d.name}`} onClick={() => ask("unlock")}>
          {"Activate\u2026"}
        </button>
      )}
      {formattable && (
        <button type="button" aria-label={`Format ${d.name}`} onClick={() => ask("format")}>
          {"Format\u2026"}
        </button>
      )}
    </>
  );
}

// Dialog is modal until it is closed, by its buttons or by Escape. What was refused stands in it, since it covers the notices.
export function Dialog({ title, done, close, ready, doing, said = false, children }: DialogProps) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => box.current?.showModal(), []);
  const shut = () => box.current?.close(); // which gives the focus back to what had it before
  const refused = useSignal("");
  const busy = useSignal(false);
  const submit = async (e: Event) => {
    e.preventDefault();
    if (!ready || busy.value) return;
    busy.value = true;
    notice.value = refused.value = "";
    try {
      await done();
      shut();
    } catch (err) {
      refused.value = reason(err);
    }
    busy.value = false;
  };
  return (
    <dialog ref={box} tabIndex={-1} aria-label={title} onClose={close}>
      <form onSubmit={submit}>
        <h2>{title}</h2>
        {children}
        <p class="bad" role="alert" id="refused">
          {!said && refused.value}
        </p>
        <div class="row">
          <span class="grow" />
          <button type="button" onClick={shut}>
            Cancel
          </button>
          <button class="primary" disabled={!ready} aria-busy={busy.value}>
            {doing}
          </button>
        </div>
      </form>
    </dialog>
  );
}

interface DialogProps {
  title: string;
  done: () => Promise<void>; // what is asked for; it is refused with an error
  close: () => void;
  ready: boolean;
  doing: string; // what the button does
  said?: boolean; // whether it says already why it was refused
  children: preact.ComponentChildren;
}

function Unlock({ d, close }: { d: Storage; close: () => void }) {
  const password = useSignal("");
  const done = () => change(d, "activate", { password: password.value });
  return (
    <Dialog title={`Activate ${d.name}`} done={done} close={close} ready={password.value !== ""} doing="Activate">
      <label>
        Password of the device
        <input type="password" autocomplete="off" value={password.value} onInput={(e) => (password.value = e.currentTarget.value)} />
      </label>
    </Dialog>
  );
}

function Format({ d, close }: { d: Storage; close: () => void }) {
  const typed = useSignal("");
  const share = useSignal("0");
  const encrypt = useSignal(false);
  const password = useSignal("");
  const again = useSignal("");
  const rings = ringsOn(d);
  const ready = typed.value === d.name && (!encrypt.value || (password.value !== "" && password.value === again.value));
  const done = () => {
    const body = { confirm: typed.value, ringShare: Number(share.value), encrypt: encrypt.value, ...(encrypt.value && { password: password.value }) };
    return change(d, "format", body);
  };
  return (
    <Dialog title={`Format ${d.name}`} done={done} close={close} ready={ready} doing="Format and delete everything">
      <p class="warn">
        Everything on {d.path} ({bytes(d.bytes)}
        {d.model && `, ${d.model}`}) will be deleted{rings && `, and what ${rings} may have there`}.
      </p>
      <label>
        Share for rings, in percent; with 100 there is no room for files
        <input type="number" min={0} max={100} required value={share.value} onInput={(e) => (share.value = e.currentTarget.value)} />
      </label>
      <label class="check">
        <input type="checkbox" checked={encrypt.value} onChange={(e) => (encrypt.value = e.currentTarget.checked)} />
        Encrypt (LUKS2); the password is asked for at every activation
      </label>
      {encrypt.value &&
        [["Password of the device", password] as const, ["The same once more: nobody can open the device without it", again] as const].map(([label, value]) => (
          <label key={label}>
            {label}
            <input type="password" autocomplete="new-password" value={value.value} onInput={(e) => (value.value = e.currentTarget.value)} />
          </label>
        ))}
      <label>
        <span>
          Type <strong>{d.name}</strong> to confirm
        </span>
        <input id="confirm" autocomplete="off" spellcheck={false} value={typed.value} onInput={(e) => (typed.value = e.currentTarget.value)} />
      </label>
    </Dialog>
  );
}
