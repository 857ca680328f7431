import type { ComponentChildren } from "preact";

// A Panel is a titled table, or a sentence that says what will be here.
export function Panel(p: { title: string; head: string[]; empty: string; side?: ComponentChildren; children: ComponentChildren[] }) {
  return (
    <section class="panel">
      <div class="row">
        <h2 class="grow">{p.title}</h2>
        {p.side}
      </div>
      {p.children.length === 0 ? (
        <p class="dim">{p.empty}</p>
      ) : (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                {p.head.map((h, i) => (
                  <th scope="col" key={i} class={h.startsWith("#") ? "num" : ""}>
                    {h.replace("#", "")}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>{p.children}</tbody>
          </table>
        </div>
      )}
    </section>
  );
}

// Num is a number cell; loss is red, and only loss.
export function Num({ value, exact, loss }: { value: string; exact?: string; loss?: boolean }) {
  return (
    <td class={loss ? "num bad" : "num"} title={exact ?? value}>
      {value}
    </td>
  );
}
