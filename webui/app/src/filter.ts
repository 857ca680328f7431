// The expert filter of the start form: any other part of the page may put an expression there.

import { effect, signal } from "@preact/signals";
import { call, type FilterCheck } from "./api";
import { say } from "./state";

export const expression = signal("");
export const check = signal<FilterCheck | null>(null); // null while it is being checked

let turn = 0;

effect(() => {
  const text = expression.value;
  const mine = ++turn;
  check.value = null;
  setTimeout(async () => {
    if (mine !== turn) return;
    try {
      const reply = await call<FilterCheck>("POST", "/filter/check", { expression: text });
      if (mine === turn) check.value = reply;
    } catch (e) {
      say(e);
    }
  }, 120);
});

// narrow puts an expression into the form, to be looked at and started.
export function narrow(text: string): void {
  expression.value = text;
  document.getElementById("expression")?.focus();
  scrollTo({ top: 0 });
}
