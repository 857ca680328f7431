// The expert filter of the start form: any other part of the page may put an expression there.

import { computed, effect, signal, untracked } from "@preact/signals";
import { call, type FilterCheck, Refusal } from "./api";
import { access, say, view } from "./state";
import { source } from "./when";

// The filter is part of the page's address: it outlives a reload, can be sent to somebody, and going back brings the one before.
const written = () => new URLSearchParams(location.hash.slice(1)).get("filter") ?? "";

export const expression = signal(written());

const rest = 400; // ms: browsers limit how often the address may change
let noted = -rest;
let noting: ReturnType<typeof setTimeout> | undefined;

function note(): void {
  clearTimeout(noting);
  if (expression.peek() === written()) return;
  noted = performance.now();
  const hash = expression.peek() === "" ? "" : `#${new URLSearchParams({ filter: expression.peek() })}`;
  history.replaceState(null, "", location.pathname + location.search + hash);
}

effect(() => {
  void expression.value;
  clearTimeout(noting);
  noting = setTimeout(note, noted + rest - performance.now());
});
addEventListener("popstate", () => (expression.value = written()));

// check is the device's latest answer, and which expression and source it is about: live ports cannot tell all that a recorded packet may say.
export const check = signal<(FilterCheck & { of: string; from: string }) | null>(null);

// checked says whether the answer is about what stands in the form.
export const checked = computed(() => check.value?.of === expression.value && check.value.from === from());

const from = () => view.value || source.value;

// slow says that an answer is awaited so long that the one before must not be shown any more.
export const slow = signal(false);

let asking = false;

effect(() => {
  if (access.value === "in" && !checked.value) void ask();
});

// ask asks until the answer is about what stands in the field: one question at a time, so that typing is answered as fast as the device can.
async function ask(): Promise<void> {
  if (asking) return;
  asking = true;
  while (access.peek() === "in" && !checked.peek()) {
    const late = setTimeout(() => (slow.value = true), 500);
    const about = { of: expression.peek(), from: untracked(from) };
    try {
      check.value = { ...about, ...(await call<FilterCheck>("POST", "/filter/check", { expression: about.of, ...(about.from && { source: about.from }) })) };
    } catch (e) {
      check.value = null;
      if (!(e instanceof Refusal && known(e, about.from))) say(e);
      slow.value = true;
      await new Promise((done) => setTimeout(done, 2000));
    } finally {
      clearTimeout(late);
    }
  }
  slow.value = false;
  asking = false;
}

// known says whether the page says already why there is no answer: the device is away, or the ring or slot has just gone.
const known = (e: Refusal, from: string) => e.failure.kind === "unavailable" || (from !== "" && (e.status === 404 || e.status === 409));

// narrow puts an expression into the form, to be looked at and started.
export function narrow(text: string): void {
  note();
  if (text !== written()) history.pushState(null, "");
  expression.value = text;
  scrollTo({ top: 0 });
  focusFilter();
}

export function focusFilter(): void {
  document.getElementById("expression")?.focus();
}
