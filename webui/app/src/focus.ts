// Whoever works with the keyboard keeps the place: when what has the focus goes, or can no longer be used, the dialog or the heading of the part of the page that it was in gets it.
// The next row does not: who is about to press a button must not press another row's because the first has just ended.

import { focusFilter } from "./filter";

let last: Element | undefined; // what has the focus
let part: HTMLElement | null = null; // the section or dialog that it is in

const usable = (e: Element) => e.isConnected && !e.matches(":disabled");

// follow notes where the focus is, and leads it on where it was lost.
function follow(): void {
  const now = document.activeElement;
  if (now !== null && now !== document.body && usable(now)) {
    last = now;
    part = now.closest<HTMLElement>("dialog, section");
    return;
  }
  if (last === undefined || usable(last)) return;
  last = undefined;
  if (!part?.isConnected) focusFilter();
  else (part.matches("dialog") ? part : part.querySelector<HTMLElement>("h2"))?.focus({ preventScroll: true });
}

// keepFocus begins to keep it.
export function keepFocus(): void {
  document.addEventListener("focusin", follow);
  document.addEventListener("focusout", (e) => {
    const left = e.target;
    // Who clicks beside everything wants no focus.
    setTimeout(() => {
      if (last === left && last !== document.activeElement && usable(last as Element)) last = undefined;
    });
  });
  new MutationObserver(follow).observe(document.body, { childList: true, subtree: true, attributeFilter: ["disabled"] });
}
