// The fields of forms.

import type { Signal } from "@preact/signals";
import { time } from "./format";

interface Choice {
  label: string;
  value: Signal<string>;
  options: [value: string, text: string][];
  shown?: string; // what stands there while nothing was chosen
}

export function Select({ label, value, options, shown = "" }: Choice) {
  return (
    <label>
      {label}
      <select value={value.value || shown} onChange={(e) => (value.value = e.currentTarget.value)}>
        {options.map(([v, text]) => (
          <option value={v} key={v}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

export function Text({ label, value, hint }: { label: string; value: Signal<string>; hint: string }) {
  return (
    <label>
      {label}
      <input value={value.value} placeholder={hint} onInput={(e) => (value.value = e.currentTarget.value)} />
    </label>
  );
}

export function Limit({ what, none = "no limit", value }: { what: string; none?: string; value: Signal<string> }) {
  return (
    <label>
      {what}
      <input type="number" min={0} step="any" placeholder={none} value={value.value} onInput={(e) => (value.value = e.currentTarget.value)} />
    </label>
  );
}

// timeField writes a time (µs) as a field for times does, in the browser's zone; timeOf reads it.
export const timeField = (us: number) => time(us).replace(" ", "T");

export function timeOf(text: string): number | undefined {
  return text === "" ? undefined : Date.parse(text) * 1000;
}

interface TimeProps {
  label: string;
  value: Signal<string>;
  min?: number | undefined;
  wrong?: boolean;
  about?: string; // id of what says what is wrong
}

export function Time({ label, value, min, wrong = false, about }: TimeProps) {
  return (
    <label>
      {label}
      <input
        type="datetime-local"
        step={1}
        min={min === undefined ? undefined : timeField(min)}
        class={wrong ? "invalid" : undefined}
        aria-invalid={wrong}
        aria-describedby={about}
        value={value.value}
        onInput={(e) => (value.value = e.currentTarget.value)}
      />
    </label>
  );
}
