// Numbers, rates and times as a person reads them: SI prefixes, three significant digits, exact value in a tooltip.

const prefixes = ["", "k", "M", "G", "T", "P"];

function scaled(n: number): [string, string] {
  let i = 0;
  while (n >= 999.5 && i < prefixes.length - 1) {
    n /= 1000;
    i++;
  }
  const digits = i === 0 || n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2;
  return [n.toFixed(digits), prefixes[i] ?? ""];
}

export function bits(perSecond: number): string {
  const [n, p] = scaled(perSecond);
  return `${n} ${p}bit/s`;
}

export function bytes(n: number): string {
  const [s, p] = scaled(n);
  return `${s} ${p}B`;
}

export function packets(perSecond: number): string {
  const [n, p] = scaled(perSecond);
  return `${n} ${p}pps`;
}

// amount is a count that fits a column: exact as long as it is short.
export function amount(n: number): string {
  return n < 1e7 ? count(n) : scaled(n).join(" ");
}

export function count(n: number): string {
  return n.toLocaleString("en-US").replaceAll(",", "\u202f");
}

// time shows microseconds since the epoch in the browser's zone, and says its offset where that was or will be another one than now.
export function time(us: number): string {
  const there = zone(us);
  return there === zone() ? local(us) : `${local(us)} ${there}`;
}

// local is a time (µs) without its offset.
export function local(us: number): string {
  const d = new Date(us / 1000);
  const pad = (n: number) => String(n).padStart(2, "0");
  const date = `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}`;
  return `${date} ${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}

// zone is the offset of the browser's zone at a time (µs).
export function zone(us = Date.now() * 1000): string {
  const off = -new Date(us / 1000).getTimezoneOffset();
  const pad = (n: number) => String(Math.floor(n)).padStart(2, "0");
  return `UTC${off < 0 ? "-" : "+"}${pad(Math.abs(off) / 60)}:${pad(Math.abs(off) % 60)}`;
}

export function duration(us: number): string {
  const s = Math.max(0, us / 1e6);
  if (s < 60) return `${s.toFixed(1)} s`;
  const m = Math.floor(s / 60);
  return m < 60 ? `${m} min ${Math.floor(s % 60)} s` : `${Math.floor(m / 60)} h ${m % 60} min`;
}

// sentence begins a text as a sentence begins.
export function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
