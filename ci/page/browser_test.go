package page

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"galvo/ci/device"
	"galvo/ci/need"
)

// axeFile is where make web installs axe-core.
const axeFile = "../../webui/app/node_modules/axe-core/axe.min.js"

// A tab is the page in a browser.
type tab struct {
	t         *testing.T
	ctx       context.Context
	downloads string // folder
	axe       string // source
	heard     int    // times that quiet was called

	mu     sync.Mutex
	errors []string // of the console
}

// open starts Chromium beside a device.
func open(t *testing.T, d *wired) *tab {
	t.Helper()
	chromium, nsenter := need.Tool(t, "chromium"), need.Tool(t, "nsenter")
	axe, err := os.ReadFile(axeFile)
	if err != nil {
		t.Fatalf("axe-core is not installed: run make web: %v", err)
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(nsenter),
		chromedp.WSURLReadTimeout(device.Patience),
		chromedp.NoSandbox, // Chromium's sandbox refuses root
		chromedp.DisableGPU,
		chromedp.IgnoreCertErrors,
		chromedp.UserDataDir(t.TempDir()),
		chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			cmd.Args = slices.Insert(cmd.Args, 1, fmt.Sprintf("--net=/proc/%d/ns/net", d.Pid), chromium)
		}),
	)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	p := &tab{t: t, ctx: ctx, downloads: t.TempDir(), axe: string(axe)}
	if err := chromedp.Do(ctx); err != nil { // the browser lives as long as the context of the first call: no timeout here
		t.Fatalf("start Chromium: %v", err)
	}
	go p.listen(chromedp.Console(ctx))
	_, err = chromedp.CallBrowser(ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: p.downloads,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.Navigate(d.URL))
	return p
}

func (p *tab) listen(messages func(func(chromedp.ConsoleMessage, error) bool)) {
	for m, err := range messages {
		if err != nil {
			return
		}
		if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.IsException() {
			p.mu.Lock()
			p.errors = append(p.errors, m.String())
			p.mu.Unlock()
		}
	}
}

// quiet fails the test if the console showed an error since the last call that does not contain one of the expected texts.
func (p *tab) quiet(expected ...string) {
	p.t.Helper()
	p.heard++
	last := fmt.Sprintf("heard so far: %d", p.heard)
	eval[chromedp.Void](p, fmt.Sprintf("console.warn(%q)", last))
	device.Wait(p.t, "all that the console said has come", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return slices.ContainsFunc(p.errors, func(e string) bool { return strings.Contains(e, last) })
	})
	expected = append(expected, "heard so far")
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.errors {
		if !slices.ContainsFunc(expected, func(x string) bool { return strings.Contains(e, x) }) {
			p.t.Errorf("the browser's console says: %s", e)
		}
	}
	p.errors = nil
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, device.Patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// eval returns the value of a JavaScript expression.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, device.Patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// text returns what stands in the first element that a CSS selector finds.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector))
}

// shows waits until an element contains a text.
func (p *tab) shows(selector, text string) {
	p.t.Helper()
	last, ok := "", false
	defer func() {
		if !ok {
			p.t.Logf("%s shows %q", selector, last)
			p.picture("failed")
		}
	}()
	device.Wait(p.t, fmt.Sprintf("%s shows %q", selector, text), func() bool {
		last = p.text(selector)
		ok = strings.Contains(last, text)
		return ok
	})
}

// hides waits until no element that a CSS selector finds shows anything.
func (p *tab) hides(selector string) {
	p.t.Helper()
	last := ""
	defer func() {
		if last != "" {
			p.t.Logf("%s shows %q", selector, last)
			p.picture("failed")
		}
	}()
	device.Wait(p.t, selector+" is gone", func() bool {
		last = p.text(selector)
		return last == ""
	})
}

// write replaces the text of a field.
func (p *tab) write(selector, text string) {
	p.t.Helper()
	p.do(chromedp.WaitVisible(chromedp.CSS(selector)))
	eval[chromedp.Void](p, fmt.Sprintf("document.querySelector(%q).select()", selector))
	if _, err := chromedp.Call(p.ctx, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		p.t.Fatal(err)
	}
}

// filter writes a filter and waits until the verdict is about it.
func (p *tab) filter(expression string) {
	p.t.Helper()
	p.write("#expression", expression)
	device.Wait(p.t, "the filter is checked", func() bool {
		return eval[bool](p, fmt.Sprintf("document.querySelector('#expression').value === %q && document.querySelector('#verdict').ariaBusy === 'false'", expression))
	})
}

// focus returns the tag, and the text or label, of what has the focus.
func (p *tab) focus() string {
	p.t.Helper()
	return eval[string](p, "(({tagName, ariaLabel, id, innerText}) => tagName + ' ' + (ariaLabel || id || innerText))(document.activeElement)")
}

// focuses waits until something has the focus.
func (p *tab) focuses(what string) {
	p.t.Helper()
	last := ""
	defer func() {
		if last != what {
			p.t.Logf("%q has the focus", last)
		}
	}()
	device.Wait(p.t, what+" has the focus", func() bool {
		last = p.focus()
		return last == what
	})
}

// key presses a key on what a CSS selector finds.
func (p *tab) key(selector, key string) {
	p.t.Helper()
	p.do(chromedp.WaitVisible(chromedp.CSS(selector)))
	eval[chromedp.Void](p, fmt.Sprintf("document.querySelector(%q).focus()", selector))
	p.do(chromedp.KeyEvent(key))
}

// cell returns what stands in a row of a table in the column of that name.
func (p *tab) cell(table string, row int, column string) string {
	p.t.Helper()
	return p.text(fmt.Sprintf("table[aria-label='%s'] tbody tr:nth-child(%d) td[data-name='%s']", table, row, column))
}

// top returns where on the page a part of it begins.
func (p *tab) top(title string) int {
	p.t.Helper()
	return eval[int](p, fmt.Sprintf("Math.round(document.querySelector(\"section[aria-label='%s']\").getBoundingClientRect().top + scrollY)", title))
}

// look sets the colour scheme and the width of the page.
func (p *tab) look(scheme string, width int64) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.do(chromedp.EmulateViewport(width, 900))
}

// accessible fails the test for what axe-core finds.
func (p *tab) accessible() {
	p.t.Helper()
	eval[chromedp.Void](p, p.axe)
	found := eval[string](p, `axe.run(document, {resultTypes: ["violations", "incomplete"]}).then((r) => JSON.stringify(
		[...r.violations, ...r.incomplete].flatMap((v) => v.nodes.map((n) => v.id + " at " + n.target + ": " + n.failureSummary))))`)
	var violations []string
	if err := json.Unmarshal([]byte(found), &violations); err != nil {
		p.t.Fatal(err)
	}
	for _, v := range violations {
		p.t.Errorf("axe: %s", v)
	}
}

// picture leaves a screenshot, if somebody wants one.
func (p *tab) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("GALVO_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		p.t.Errorf("screenshot: %v", err)
	}
}
