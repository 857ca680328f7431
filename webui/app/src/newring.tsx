import { useSignal } from "@preact/signals";
import { call, type Failure, Refusal, type RingRequest } from "./api";
import { bytes } from "./format";
import { type Row, RuleRows, ruleOf } from "./rules";
import { devices, Dialog, refreshDevices } from "./storage";

const units: [text: string, bytes: number][] = [
  ["MB", 1e6],
  ["GB", 1e9],
  ["TB", 1e12],
];

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
      <RuleRows rows={rows} refused={refused} />
    </Dialog>
  );
}
