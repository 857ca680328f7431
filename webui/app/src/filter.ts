// The expert filter of the start form: any other part of the page may put an expression there.

import { computed, effect, signal, untracked } from "@preact/signals";
import { call, type FilterCheck, Refusal } from "./api";
import { access, say, view } from "./state";
import { source } from "./when";

export const expression = signal("");

// check is the device's latest answer, and which expression and source it is about: live ports cannot tell all that a recorded packet may say.
export const check = signal<(FilterCheck & { of: string; from: string }) | null>(null);

// checked says whether the answer is about what stands in the form.
export const checked = computed(() => check.value?.of === expression.value && check.value.from === from());

const from = () => view.value || source.value;

let asking = false;

effect(() => {
  if (access.value === "in" && !checked.value) void ask();
});

// ask asks until the answer is about what stands in the field: one question at a time, so that typing is answered as fast as the device can.
async function ask(): Promise<void> {
  if (asking) return;
  asking = true;
  while (access.peek() === "in" && !checked.peek()) {
    const about = { of: expression.peek(), from: untracked(from) };
    try {
      check.value = { ...about, ...(await call<FilterCheck>("POST", "/filter/check", { expression: about.of, ...(about.from && { source: about.from }) })) };
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
