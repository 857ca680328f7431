import { useSignal } from "@preact/signals";
import { call, type Failure, Refusal, type RingRequest, type RingRule } from "./api";
import { bytes, sentence } from "./format";
import { devices, Dialog, refreshDevices } from "./storage";

// kinds are what rules may be for: how the list has it, and an example of the value.
const kinds: [type: RingRule["type"], text: string, example: string][] = [
  ["all", "all packets", ""],
  ["ip", "IP or subnet", "10.0.0.0/8"],
  ["port", "port", "443 or 5000-6000"],
  ["mac", "MAC", "02:00:00:00:00:01"],
  ["l7", "layer 7 protocol", "TLS"],
  ["vlan", "outer VLAN", "100"],
  ["interface", "interface", "1"],
  ["sip", "SIP number", "4930123456"],
  ["group", "group", "branch office"],
  ["filter", "expert filter", "ip == 10.0.0.1 and port == 443"],
];

const actions: [action: RingRule["action"], text: string][] = [
  ["full", "keep in full"],
  ["snap", "keep the first bytes"],
  ["l2", "keep the layer 2 header"],
  ["l3", "keep up to layer 3"],
  ["l4", "keep up to layer 4"],
  ["discard", "leave out"],
];

const units: [text: string, bytes: number][] = [
  ["MB", 1e6],
  ["GB", 1e9],
  ["TB", 1e12],
];

// A Row is a rule while it is written.
interface Row {
  type: RingRule["type"];
  value: string;
  negate: boolean;
  action: RingRule["action"];
  snap: string;
}

function ruleOf(r: Row): RingRule {
  return {
    type: r.type,
    action: r.action,
    ...(r.type !== "all" && { value: r.value.trim() }),
    ...(r.negate && { negate: true }),
    ...(r.action === "snap" && { snapLength: Number(r.snap) }),
  };
}

// A refusal of a rule begins with its number.
function ruleOfFailure(f: Failure | null): number {
  return Number(/^rule (\d+): /.exec(f?.error ?? "")?.[1] ?? 0) - 1;
}

const wordsOf = (f: Failure) => `${sentence(f.error)}${(f.expected ?? []).length > 0 ? ` (expected: ${f.expected?.join(", ")})` : ""}`;

export function NewRing({ close }: { close: () => void }) {
  const active = devices.value.filter((d) => d.state === "active");
  const name = useSignal("");
  const chosen = useSignal<string[] | null>(null); // the first device, until somebody chooses
  const size = useSignal("");
  const unit = useSignal("GB");
  const twice = useSignal(false);
  const rows = useSignal<Row[]>([]);
  const refused = useSignal<Failure | null>(null);

  const ids = chosen.value ?? active.slice(0, 1).map((d) => d.id);
  const here = active.filter((d) => ids.includes(d.id));
  const room = here.length * Math.min(...here.map((d) => d.ringFreeBytes));
  const wanted = Math.round(Number(size.value) * (units.find(([text]) => text === unit.value)?.[1] ?? 1));
  const tooMuch = here.length > 0 && wanted > room;
  const copied = twice.value && here.length > 1;
  const ready = name.value !== "" && here.length > 0 && wanted > 0 && !tooMuch;

  const done = async () => {
    const request: RingRequest = {
      name: name.value,
      devices: here.map((d) => d.id),
      sizeBytes: wanted,
      replication: copied ? 1 : 0,
      rules: rows.value.map(ruleOf),
    };
    try {
      await call("POST", "/rings", request);
    } catch (e) {
      if (e instanceof Refusal) refused.value = e.failure;
      throw e;
    }
    void refreshDevices();
  };
  const choose = (id: string, yes: boolean) => (chosen.value = yes ? [...ids, id] : ids.filter((x) => x !== id));
  const change = (to: Row[]) => {
    rows.value = to;
    refused.value = null; // it was about other rules
  };
  const wrongRule = ruleOfFailure(refused.value);

  return (
    <Dialog title="Create a packet ring buffer" done={done} close={close} ready={ready} doing="Create ring" said={refused.value !== null}>
      <label>
        Name
        <input
          id="ringname"
          required
          maxLength={63}
          pattern="[A-Za-z0-9][A-Za-z0-9._\-]*"
          title="letters, digits, dots, hyphens and underlines, of which a letter or digit comes first"
          autocomplete="off"
          spellcheck={false}
          value={name.value}
          onInput={(e) => (name.value = e.currentTarget.value)}
        />
      </label>
      <fieldset>
        <legend>Storage devices, over which its blocks are spread</legend>
        {active.length === 0 && <p class="warn">No storage device is active. Activate one first.</p>}
        {active.map((d) => (
          <label class="check" key={d.id}>
            <input type="checkbox" checked={ids.includes(d.id)} onChange={(e) => choose(d.id, e.currentTarget.checked)} />
            <span>
              {d.name}, {bytes(d.ringFreeBytes)} free
            </span>
          </label>
        ))}
        {active.length > 1 && (
          <label class="check">
            <input type="checkbox" disabled={here.length < 2} checked={copied} onChange={(e) => (twice.value = e.currentTarget.checked)} />
            Keep each block on two devices, which halves size and rate
          </label>
        )}
      </fieldset>
      <div class="row">
        <label class="grow">
          Size on all devices together
          <input
            id="ringsize"
            type="number"
            min={0}
            step="any"
            required
            class={tooMuch ? "invalid" : undefined}
            aria-invalid={tooMuch}
            aria-describedby="ringroom"
            value={size.value}
            onInput={(e) => (size.value = e.currentTarget.value)}
          />
        </label>
        <label>
          Unit
          <select value={unit.value} onChange={(e) => (unit.value = e.currentTarget.value)}>
            {units.map(([text]) => (
              <option key={text}>{text}</option>
            ))}
          </select>
        </label>
      </div>
      <p id="ringroom" class={tooMuch ? "bad" : "dim"}>
        {here.length === 0 ? "Choose a storage device." : `There is room for ${bytes(room)}${copied ? `, which is ${bytes(room / 2)} of packets` : ""}. All of it is written once, which takes a while.`}
      </p>
      <fieldset>
        <legend>Rules: the first that matches a packet says what is kept of it; all others are kept in full</legend>
        {rows.value.map((r, i) => (
          <RuleRow
            key={i}
            n={i + 1}
            r={r}
            wrong={wrongRule === i && refused.value ? wordsOf(refused.value) : ""}
            set={(part) => change(rows.value.with(i, { ...r, ...part }))}
            up={i > 0 ? () => change(rows.value.with(i - 1, r).with(i, rows.value[i - 1] ?? r)) : undefined}
            remove={() => change(rows.value.toSpliced(i, 1))}
          />
        ))}
        <button type="button" onClick={() => change([...rows.value, { type: "ip", value: "", negate: false, action: "discard", snap: "128" }])}>
          Add rule
        </button>
      </fieldset>
      <p class="bad" role="alert">
        {refused.value && !(wrongRule in rows.value) && wordsOf(refused.value)}
      </p>
    </Dialog>
  );
}

interface RuleProps {
  n: number;
  r: Row;
  wrong: string;
  set: (change: Partial<Row>) => void;
  up: (() => void) | undefined;
  remove: () => void;
}

function RuleRow({ n, r, wrong, set, up, remove }: RuleProps) {
  return (
    <div class="rule" role="group" aria-label={`Rule ${n}`}>
      <div class="row wrap">
        <span class="dim tabular">{n}</span>
        <select aria-label="For" value={r.type} onChange={(e) => set({ type: e.currentTarget.value as Row["type"] })}>
          {kinds.map(([type, text]) => (
            <option value={type} key={type}>
              {text}
            </option>
          ))}
        </select>
        {r.type !== "all" && (
          <input
            class={wrong ? "grow invalid" : "grow"}
            required
            aria-label="Value"
            aria-invalid={wrong !== ""}
            spellcheck={false}
            placeholder={kinds.find(([type]) => type === r.type)?.[2]}
            value={r.value}
            onInput={(e) => set({ value: e.currentTarget.value })}
          />
        )}
        <label class="check">
          <input type="checkbox" checked={r.negate} onChange={(e) => set({ negate: e.currentTarget.checked })} />
          all but these
        </label>
      </div>
      <div class="row wrap">
        <select aria-label="Action" value={r.action} onChange={(e) => set({ action: e.currentTarget.value as Row["action"] })}>
          {actions.map(([action, text]) => (
            <option value={action} key={action}>
              {text}
            </option>
          ))}
        </select>
        {r.action === "snap" && (
          <input type="number" required min={1} max={65535} aria-label="Bytes" value={r.snap} onInput={(e) => set({ snap: e.currentTarget.value })} />
        )}
        <span class="grow" />
        <button type="button" aria-label={`Move rule ${n} up`} disabled={!up} onClick={up}>
          Up
        </button>
        <button type="button" aria-label={`Remove rule ${n}`} onClick={remove}>
          Remove
        </button>
      </div>
      {wrong && (
        <p class="bad" role="alert">
          {wrong}
        </p>
      )}
    </div>
  );
}
