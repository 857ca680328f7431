import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { amount, count } from "./format";

// A Column says how a table shows one thing about each of its rows.
export interface Column<T> {
  name: string;
  about?: string; // what it means, as a tooltip of the head
  kind?: "num" | "mid" | "act"; // a number, a few words, or a button; others share the room that is left
  cell: (row: T) => ComponentChildren;
  exact?: (row: T) => string | undefined; // a tooltip of the cell
  loss?: (row: T) => boolean; // red, and only loss is
}

// counter is a column of exact numbers. Those of losses are red where there are any.
export function counter<T>(name: string, about: string, of: (row: T) => number, kind?: "loss"): Column<T> {
  return { name, about, kind: "num", cell: (row) => amount(of(row)), exact: (row) => count(of(row)), loss: (row) => kind === "loss" && of(row) > 0 };
}

interface TableProps<T> {
  label: string;
  columns: Column<T>[];
  rows: T[];
  few?: number; // so many rows are shown until somebody asks for all of them
  id: (row: T) => string;
  empty: string; // a sentence that says what will be here
}

// Table is a table whose columns keep their width whatever the numbers are, and whose rows keep their place while somebody points at them.
export function Table<T>({ label, columns, rows, few = Infinity, id, empty }: TableProps<T>) {
  const table = useRef<HTMLTableElement>(null);
  const order = useRef<string[]>([]);
  if (table.current?.matches(":hover, :focus-within")) rows = inOrder(rows, id, order.current);
  order.current = rows.map(id);
  const all = useSignal(false);
  return (
    <table ref={table} aria-label={label}>
      <thead>
        <tr>
          {columns.map((c) =>
            c.kind === "act" ? (
              <td class="act" key={c.name} />
            ) : (
              <th scope="col" class={c.kind} title={c.about} key={c.name}>
                {c.name}
              </th>
            ),
          )}
        </tr>
      </thead>
      <tbody>
        {rows.slice(0, all.value ? undefined : few).map((row) => (
          <tr key={id(row)}>
            {columns.map((c) => (
              <td class={c.kind} data-name={c.kind === "act" ? undefined : c.name} key={c.name} title={c.exact?.(row)}>
                {c.loss?.(row) ? <strong class="bad">{c.cell(row)}</strong> : c.cell(row)}
              </td>
            ))}
          </tr>
        ))}
        {rows.length > few && (
          <tr>
            <td colSpan={columns.length}>
              <button type="button" aria-expanded={all.value} onClick={() => (all.value = !all.value)}>
                {all.value ? `Show only ${few}` : `Show all ${count(rows.length)}`}
              </button>
            </td>
          </tr>
        )}
        {rows.length === 0 && (
          <tr>
            <td class="dim empty" colSpan={columns.length}>
              {empty}
            </td>
          </tr>
        )}
      </tbody>
    </table>
  );
}

// inOrder leaves the rows where they were; new ones come last.
function inOrder<T>(rows: T[], id: (row: T) => string, order: string[]): T[] {
  const place = new Map(order.map((k, i) => [k, i]));
  const at = (row: T) => place.get(id(row)) ?? order.length;
  return rows.toSorted((a, b) => at(a) - at(b));
}

// Panel is a titled part of the page.
export function Panel({ title, side, children }: { title: string; side?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section class="panel" aria-label={title}>
      <div class="row title">
        <h2 class="grow" tabIndex={-1}>
          {title}
        </h2>
        {side}
      </div>
      {children}
    </section>
  );
}
