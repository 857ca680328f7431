// The expert filter of the start form: any other part of the page may put an expression there.

import { effect, signal } from "@preact/signals";
import { call, type FilterCheck, Refusal } from "./api";
import { access, say } from "./state";

export const expression = signal("");

// check is the device's latest answer, and which expression it is about.
export const check = signal<(FilterCheck & { of: string }) | null>(null);

let asking = false;

effect(() => {
  if (access.value === "in" && check.peek()?.of !== expression.value) void ask();
});

// ask asks until the answer is about what stands in the field: one question at a time, so that typing is answered as fast as the device can.
async function ask(): Promise<void> {
  if (asking) return;
  asking = true;
  while (access.peek() === "in" && check.peek()?.of !== expression.peek()) {
    const of = expression.peek();
    try {
      check.value = { of, ...(await call<FilterCheck>("POST", "/filter/check", { expression: of })) };
    } catch (e) {
      check.value = null;
      if (!(e instanceof Refusal && e.failure.kind === "unavailable")) say(e); // the page says already that the device is away
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
  asking = false;
}

// narrow puts an expression into the form, to be looked at and started.
export function narrow(text: string): void {
  expression.value = text;
  scrollTo({ top: 0 });
  focusFilter();
}

export function focusFilter(): void {
  document.getElementById("expression")?.focus();
}
