// The fields of forms.

import type { Signal } from "@preact/signals";
import { useEffect, useId, useRef } from "preact/hooks";
import { local, zone } from "./format";

interface Choice {
  label: string;
  value: Signal<string>;
  options: [value: string, text: string][];
  shown?: string; // what stands there while nothing was chosen, or something that is no more
}

export function Select({ label, value, options, shown = "" }: Choice) {
  const there = options.some(([v]) => v === value.value);
  return (
    <label>
      {label}
      <select value={there ? value.value : shown} onChange={(e) => (value.value = e.currentTarget.value)}>
        {options.map(([v, text]) => (
          <option value={v} key={v}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

export function Text({ label, value, hint = "" }: { label: string; value: Signal<string>; hint?: string }) {
  return (
    <label class="wide">
      {label}
      <input value={value.value} placeholder={hint} onInput={(e) => (value.value = e.currentTarget.value)} />
    </label>
  );
}

interface Bound {
  what: string;
  none?: string; // what stands there while there is no limit
  least?: number;
  most: number;
  offered?: number[];
  value: Signal<string>;
}

export function Limit({ what, none = "no limit", least = 0, most, offered = [], value }: Bound) {
  const list = useId();
  return (
    <label>
      {what}
      <input type="number" min={least} max={most} step="any" list={list} placeholder={none} value={value.value} onInput={(e) => (value.value = e.currentTarget.value)} />
      <datalist id={list}>
        {offered.map((n) => (
          <option value={n} key={n} />
        ))}
      </datalist>
    </label>
  );
}

// timeField writes a time (µs) as a field for times does, in the browser's zone.
export const timeField = (us: number) => local(us).replace(" ", "T");

// timeOf reads it. Where clocks are set back, a time comes twice: for an end the later one is meant, so that nothing is left out.
export function timeOf(text: string, which: "earlier" | "later" = "earlier"): number | undefined {
  if (text === "") return undefined;
  const us = Date.parse(text) * 1000;
  const twice = which === "later" ? [3600e6, 1800e6].find((back) => local(us + back) === local(us)) : 0;
  return us + (twice ?? 0);
}

interface TimeProps {
  label: string;
  value: Signal<string>; // empty, too, while something is missing
  partial: Signal<boolean>; // whether something is missing; false empties the field then
  min?: number | undefined;
  which?: "later"; // of two times that are written so
  wrong?: boolean;
  about?: string; // id of what says what is wrong
}

export function Time({ label, value, partial, min, which, wrong = false, about }: TimeProps) {
  const field = useRef<HTMLInputElement>(null);
  const look = () => (partial.value = field.current?.validity.badInput ?? false); // no input event tells of the first part of a time
  useEffect(() => {
    if (!partial.value && field.current?.validity.badInput) field.current.value = "";
  }, [partial.value]);
  return (
    <label>
      {label}, {zone(timeOf(value.value, which))}
      <input
        ref={field}
        type="datetime-local"
        step={1}
        max="9999-12-31T23:59:59" // so that nobody types a year of five digits, which Date cannot read
        min={min === undefined ? undefined : timeField(min)}
        class={wrong ? "invalid" : undefined}
        aria-invalid={wrong}
        aria-describedby={about}
        value={value.value}
        onInput={(e) => {
          value.value = e.currentTarget.value;
          look();
        }}
        onKeyUp={look}
        onBlur={look}
      />
    </label>
  );
}
