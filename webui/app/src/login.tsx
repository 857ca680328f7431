import { useSignal } from "@preact/signals";
import { login } from "./state";

export function Login() {
  const user = useSignal("admin");
  const password = useSignal("");
  const refused = useSignal("");
  const busy = useSignal(false);
  const submit = async (e: Event) => {
    e.preventDefault();
    busy.value = true;
    refused.value = "";
    try {
      await login(user.value, password.value);
    } catch (err) {
      refused.value = err instanceof Error ? err.message : String(err);
    }
    busy.value = false;
  };
  return (
    <main class="login">
      <form class="panel" onSubmit={submit}>
        <h1>Galvo</h1>
        <label>
          User
          <input autocomplete="username" value={user.value} onInput={(e) => (user.value = e.currentTarget.value)} />
        </label>
        <label>
          Password
          <input
            type="password"
            autocomplete="current-password"
            value={password.value}
            onInput={(e) => (password.value = e.currentTarget.value)}
          />
        </label>
        {refused.value !== "" && (
          <p class="bad" role="alert">
            {refused.value}
          </p>
        )}
        <button class="primary" disabled={busy.value}>
          Log in
        </button>
        <p class="dim">The first password of admin was printed once when Galvo started for the first time.</p>
      </form>
    </main>
  );
}
