// Rules of rings: in words, and while they are written.

import { type Signal, useSignal } from "@preact/signals";
import { call, type Failure, Refusal, type Ring, type RingRule } from "./api";
import { count, sentence } from "./format";
import { Dialog } from "./storage";

// kinds are what rules may be for: how the form has it, and an example of the value.
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

// Words of rules, by what the API calls it.
const subjects: Record<RingRule["type"], string> = {
  all: "all packets",
  mac: "MAC",
  ip: "IP",
  port: "port",
  l7: "layer 7",
  vlan: "outer VLAN",
  interface: "interface",
  sip: "SIP number",
  group: "group",
  filter: "filter",
};

const kept: Record<RingRule["action"], string> = {
  full: "in full",
  snap: "",
  l2: "up to the layer 2 header",
  l3: "up to the layer 3 header",
  l4: "up to the layer 4 header",
  discard: "left out",
};

export function ruleWords(r: RingRule): string {
  const what = [subjects[r.type], r.value].filter(Boolean).join(" ");
  return `${r.negate ? `all but ${what}` : what}: ${r.action === "snap" ? `first ${count(r.snapLength ?? 0)} bytes` : kept[r.action]}`;
}

// A Row is a rule while it is written.
export interface Row {
  type: RingRule["type"];
  value: string;
  negate: boolean;
  action: RingRule["action"];
  snap: string;
}

export function ruleOf(r: Row): RingRule {
  return {
    type: r.type,
    action: r.action,
    ...(r.type !== "all" && { value: r.value.trim() }),
    ...(r.negate && { negate: true }),
    ...(r.action === "snap" && { snapLength: Number(r.snap) }),
  };
}

const rowOf = (r: RingRule): Row => ({ type: r.type, value: r.value ?? "", negate: r.negate ?? false, action: r.action, snap: String(r.snapLength ?? 128) });

// A refusal of a rule begins with its number.
function ruleOfFailure(f: Failure | null): number {
  return Number(/^rule (\d+): /.exec(f?.error ?? "")?.[1] ?? 0) - 1;
}

const wordsOf = (f: Failure) => `${sentence(f.error)}${(f.expected ?? []).length > 0 ? ` (expected: ${f.expected?.join(", ")})` : ""}`;

interface RowsProps {
  rows: Signal<Row[]>;
  refused: Signal<Failure | null>; // of these rules, or of what is asked with them
}

// RuleRows are the rules of a ring while they are written, and what is wrong with them.
export function RuleRows({ rows, refused }: RowsProps) {
  const change = (to: Row[]) => {
    rows.value = to;
    refused.value = null; // it was about other rules
  };
  const wrongRule = ruleOfFailure(refused.value);
  return (
    <>
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
    </>
  );
}

// EditRules gives a ring other rules.
export function EditRules({ r, close }: { r: Ring; close: () => void }) {
  const rows = useSignal<Row[]>((r.rules ?? []).map(rowOf));
  const refused = useSignal<Failure | null>(null);
  const done = async () => {
    try {
      await call("PUT", `/rings/${encodeURIComponent(r.name)}/rules`, { rules: rows.value.map(ruleOf) });
    } catch (e) {
      if (e instanceof Refusal) refused.value = e.failure;
      throw e;
    }
  };
  return (
    <Dialog title={`Rules of the ring ${r.name}`} done={done} close={close} ready doing="Use these rules" said={refused.value !== null}>
      <p>What comes from now on is kept by these rules. What the ring has stays as it is.</p>
      <RuleRows rows={rows} refused={refused} />
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
