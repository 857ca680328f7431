import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { focusFilter } from "./filter";
import { sentence } from "./format";
import { ended, login, user } from "./state";

export function Login() {
  const name = useSignal(user.value);
  const password = useSignal("");
  const refused = useSignal("");
  const busy = useSignal(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    field.current?.focus();
    return () => requestAnimationFrame(focusFilter);
  }, []);
  const submit = async (e: Event) => {
    e.preventDefault();
    if (busy.value) return;
    busy.value = true;
    try {
      await login(name.value, password.value);
    } catch (err) {
      refused.value = sentence(err instanceof Error ? err.message : String(err));
      field.current?.select();
    }
    busy.value = false;
  };
  return (
    <main class="login">
      <form class="panel" onSubmit={submit}>
        <h1>Galvo</h1>
        {ended.value && <p class="warn">Your session has ended. Log in again; the filter that you wrote is still there.</p>}
        <label>
          User
          <input required autocomplete="username" value={name.value} onInput={(e) => (name.value = e.currentTarget.value)} />
        </label>
        <label>
          Password
          <input
            ref={field}
            required
            type="password"
            autocomplete="current-password"
            value={password.value}
            onInput={(e) => (password.value = e.currentTarget.value)}
          />
        </label>
        <p class="bad refused" role="alert">
          {refused.value}
        </p>
        <button class="primary">{busy.value ? "Logging in\u2026" : "Log in"}</button>
        <p class="dim">The first password of admin was printed once when Galvo started for the first time.</p>
      </form>
    </main>
  );
}
