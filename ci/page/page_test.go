package page

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"

	"galvo/ci/device"
	"galvo/ci/rig"
)

// The story of a user who logs in, looks, captures and loses contact. Each part begins where the one before ended.
func TestPage(t *testing.T) {
	d := start(t)
	ctx, cancel := context.WithCancel(context.Background())
	played := make(chan error)
	go func() {
		traffic := rig.Mix(1, 5000)
		for ctx.Err() == nil {
			if err := d.play(ctx, 1, 1000, traffic); err != nil && ctx.Err() == nil {
				played <- err
				return
			}
		}
		close(played)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-played; err != nil {
			t.Error(err)
		}
	})
	p := open(t, d)
	parts := []struct {
		name string
		run  func(*tab, *wired)
	}{
		{"login", logIn},
		{"live", seeRates},
		{"filter", checkFilters},
		{"capture", capture},
		{"pointer", point},
		{"keys", useKeys},
		{"place", keepPlace},
		{"address", goBack},
		{"times", setClocks},
		{"slow", waitForVerdict},
		{"storage", useStorage},
		{"curl", paste},
		{"rest", rest},
		{"disks", seeDisks},
		{"rings", useRings},
		{"look", lookAround},
		{"delete ring", deleteRing},
		{"other rings", seeRings},
		{"fault", fail},
		{"contact", loseContact},
		{"session", endSession},
		{"logout", logOut},
	}
	for _, part := range parts {
		ok := t.Run(part.name, func(t *testing.T) {
			p.t = t
			part.run(p, d)
		})
		if p.t = t; !ok {
			return
		}
	}
}

func logIn(p *tab, _ *wired) {
	p.shows("h1", "Galvo")
	for _, scheme := range []string{"light", "dark"} {
		p.look(scheme, 1280)
		p.accessible()
		p.picture("login-" + scheme)
	}
	p.quiet()
	p.write("input[type=password]", "wrong")
	p.do(chromedp.Click(chromedp.CSS("button.primary")))
	p.shows("[role=alert]", "wrong")
	p.quiet("401")
	p.write("input[type=password]", device.Password)
	p.do(chromedp.KeyEvent("\r"))
	p.shows(".health", "live")
	p.focuses("INPUT expression")
	p.quiet("401")
}

func seeRates(p *tab, _ *wired) {
	device.Wait(p.t, "port 1 has a rate", func() bool {
		return strings.HasSuffix(p.cell("Ports", 1, "Rate"), "kbit/s") || strings.HasSuffix(p.cell("Ports", 1, "Rate"), "Mbit/s")
	})
	before := number(p.cell("Ports", 1, "Packets"))
	device.Wait(p.t, "the packets of port 1 become more", func() bool { return number(p.cell("Ports", 1, "Packets")) > before })
	if lost := p.cell("Ports", 1, "Lost"); lost != "0" {
		p.t.Errorf("port 1 lost %s packets", lost)
	}
	p.shows("table[aria-label='MAC protocols']", "IPv4")
	p.shows("table[aria-label='Layer 4 protocols']", "TCP")
	p.shows("table[aria-label='Layer 7 protocols']", "TLS")
	p.shows("table[aria-label='Running captures']", "No capture is running")
	p.shows("table[aria-label='Finished captures']", "will be listed here")
}

const startButton = "form button.primary"

func (p *tab) startable() bool {
	p.t.Helper()
	return eval[bool](p, "!document.querySelector('"+startButton+"').disabled")
}

func checkFilters(p *tab, _ *wired) {
	p.shows("#verdict", "Every packet")
	if !p.startable() {
		p.t.Error("a capture of everything cannot be started")
	}
	top := p.top("Running captures")
	for _, c := range []struct{ expression, marked, says string }{
		{"ip == 10.0.0.1 and prt == 443", "prt", "Column 20"},
		{"ip == 10.0.0.1 and (port == 443", "", "Column "},
		{"\u201c\u00e4\u201d == 1 or x", "", "Column "},
		{"ip == 10.0.0.1 and \U0001f600 == 1", "\U0001f600", "Column 20"},
		{strings.Repeat("port == 443 and ", 250) + "prt == 1", "prt", "Column 4001"},
		{"vlan ===", "===", "Column 6"},
	} {
		p.filter(c.expression)
		p.shows("#verdict", c.says)
		if p.startable() {
			p.t.Errorf("%q is wrong and can be started", c.expression)
		}
		if now := p.top("Running captures"); now != top {
			p.t.Errorf("%q moves the page by %d pixels", c.expression, now-top)
		}
		if marked := p.text("#verdict mark"); c.marked != "" && marked != c.marked {
			p.t.Errorf("%q: %q is marked, want %q", c.expression, marked, c.marked)
		}
		if eval[string](p, "document.querySelector('#expression').getAttribute('aria-invalid')") != "true" {
			p.t.Errorf("%q: the field is not marked as invalid", c.expression)
		}
		if c.marked == "prt" {
			p.shows("#verdict", "did you mean port?")
			p.picture("invalid")
			p.look("light", 1280)
			p.accessible()
		}
	}
	p.write("#expression", "vlan == 7 and l7Protocol == DNS")
	p.shows("#verdict", "VLAN id is 7")
	p.shows("#verdict", "are not captured") // packets before the verdict
	if !p.startable() {
		p.t.Error("a valid filter cannot be started")
	}
	p.quiet()
}

func capture(p *tab, d *wired) {
	traffic := rig.Mix(7, 4000)
	var want []string
	for _, f := range traffic {
		if etherType(f.Data) == 0x0806 {
			want = append(want, string(f.Data))
		}
	}
	p.filter("interface == 2 and macProtocol == ARP")
	device.Wait(p.t, "the filter can be started", p.startable)
	line := eval[string](p, "document.querySelector('.curl input').value")
	if !strings.Contains(line, d.URL+"/API/data/modules/capture?expression=interface%20%3D%3D%202%20and%20macProtocol%20%3D%3D%20ARP'") {
		p.t.Errorf("the curl line is %s", line)
	}
	top := p.top("Ports")
	p.do(chromedp.Click(chromedp.CSS(startButton)))
	p.shows("table[aria-label='Running captures'] code", "interface == 2 and macProtocol == ARP")
	device.Wait(p.t, "the capture has its client", func() bool { return strings.HasSuffix(p.cell("Running captures", 1, "Running for"), " s") })
	if err := d.play(context.Background(), 2, 0, traffic); err != nil {
		p.t.Fatal(err)
	}
	device.Wait(p.t, "the packets are counted", func() bool { return number(p.cell("Running captures", 1, "Captured")) == len(want) })
	p.picture("running")
	if now := p.top("Ports"); now != top {
		p.t.Errorf("a running capture moves the page by %d pixels", now-top)
	}
	p.do(chromedp.Click(chromedp.CSS("table[aria-label='Running captures'] tbody button")))
	p.shows("table[aria-label='Running captures']", "No capture is running")
	p.shows("table[aria-label='Finished captures'] tbody", "stopped by admin")
	for column, n := range map[string]int{"Captured": len(want), "Dropped": 0, "Held": 0, "Lost": 0} {
		if got := number(p.cell("Finished captures", 1, column)); got != n {
			p.t.Errorf("the finished capture has %s %d, want %d", column, got, n)
		}
	}
	if ignored := number(p.cell("Finished captures", 1, "Ignored")); ignored < len(traffic)-len(want) {
		p.t.Errorf("the finished capture ignored %d, want at least %d", ignored, len(traffic)-len(want))
	}
	p.expect("galvo_", want)
	p.quiet()
}

// expect compares a downloaded file, which is the only one whose name begins so, with what it should hold. Flows go through different workers, so the
// order is not compared.
func (p *tab) expect(name string, want []string) {
	p.t.Helper()
	var files []string
	device.Wait(p.t, "a file "+name+" is downloaded", func() bool {
		files, _ = filepath.Glob(filepath.Join(p.downloads, name+"*.pcapng"))
		return len(files) == 1
	})
	b, err := os.ReadFile(files[0])
	if err != nil {
		p.t.Fatal(err)
	}
	if !bytes.HasPrefix(b, []byte("\x0a\x0d\x0d\x0a")) {
		p.t.Errorf("the file begins with % x: not a section header of pcapng", b[:min(4, len(b))])
	}
	frames, err := rig.ReadFile(files[0])
	if err != nil {
		p.t.Fatal(err)
	}
	var got []string
	for _, f := range frames {
		got = append(got, string(f.Data))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		p.t.Errorf("the file has %d packets, and they are not the %d that match", len(got), len(want))
	}
}

// point holds the pointer over a table whose order changes.
func point(p *tab, d *wired) {
	const table = "table[aria-label='MAC protocols']"
	rows := func(column string) []string {
		return eval[[]string](p, fmt.Sprintf(`[...document.querySelectorAll("%s tbody td[data-name=%s]")].map((td) => td.innerText)`, table, column))
	}
	p.do(chromedp.ScrollIntoView(chromedp.CSS(table)))
	at := eval[[]float64](p, fmt.Sprintf(`(({x, y}) => [x + 20, y + 60])(document.querySelector("%s").getBoundingClientRect())`, table))
	p.do(chromedp.MouseEvent(chromedp.MouseMoved, at[0], at[1]))
	place := func() int { return slices.Index(rows("MAC"), "ARP") }
	packets := func() int { return number(rows("Packets")[place()]) }
	before := rows("MAC")
	last := place()
	if last < 1 {
		p.t.Fatalf("the protocols are %q: ARP should be one of the last", before)
	}
	had := packets()
	requests := rig.Mix(7, 4000)
	requests = slices.DeleteFunc(requests, func(f rig.Frame) bool { return etherType(f.Data) != 0x0806 })
	if err := d.play(context.Background(), 2, 10000, slices.Repeat(requests, 100)); err != nil {
		p.t.Fatal(err)
	}
	device.Wait(p.t, "ARP is seen more often", func() bool { return packets() >= had+5000 })
	if now := rows("MAC"); !slices.Equal(now, before) {
		p.t.Errorf("under the pointer %q became %q", before, now)
	}
	p.do(chromedp.MouseEvent(chromedp.MouseMoved, 1, 1))
	device.Wait(p.t, "the protocols are sorted again", func() bool { return place() < last })
}

func useKeys(p *tab, _ *wired) {
	p.do(chromedp.Click(chromedp.CSS("table[aria-label='Layer 4 protocols'] tbody button")))
	p.shows("#verdict", "protocol is TCP")
	eval[chromedp.Void](p, "document.activeElement.blur()")
	p.do(chromedp.KeyEvent("/"))
	if id := eval[string](p, "document.activeElement.id"); id != "expression" {
		p.t.Errorf("/ leads to %q", id)
	}
	p.filter("vlan == 4000")
	device.Wait(p.t, "the filter can be started", p.startable)
	p.do(chromedp.KeyEvent("\r", chromedp.KeyModifiers(chromedp.ModifierCtrl)))
	p.shows("table[aria-label='Running captures'] code", "vlan == 4000")
	device.Wait(p.t, "the capture has its client", func() bool { return strings.HasSuffix(p.cell("Running captures", 1, "Running for"), " s") })
	p.do(chromedp.Click(chromedp.CSS("table[aria-label='Running captures'] tbody button")))
	p.shows("table[aria-label='Running captures']", "No capture is running")
	for _, c := range []struct{ answer, says string }{{"Promise.resolve()", "Copied"}, {"Promise.reject(new Error('no'))", "Press Ctrl+C"}} {
		eval[chromedp.Void](p, "Object.defineProperty(navigator, 'clipboard', {configurable: true, value: {writeText: () => "+c.answer+"}})")
		p.do(chromedp.Click(chromedp.CSS(".curl button")))
		p.shows(".curl button", c.says)
		if selected := eval[string](p, "getSelection().toString()"); !strings.HasPrefix(selected, "curl ") {
			p.t.Errorf("the curl line is not selected, but %q", selected)
		}
	}
	p.quiet()
}

func lookAround(p *tab, _ *wired) {
	eval[chromedp.Void](p, "document.querySelector('details').open = true")
	for _, width := range []int64{1280, 1024, 400} {
		for _, scheme := range []string{"light", "dark"} {
			p.look(scheme, width)
			p.accessible()
			p.picture("page-" + scheme + "-" + strconv.FormatInt(width, 10))
			if wide := eval[int64](p, "document.documentElement.scrollWidth"); wide > width {
				p.t.Errorf("the page is %d wide in a window of %d", wide, width)
			}
		}
	}
	p.look("light", 1280)
	p.quiet()
}

func loseContact(p *tab, d *wired) {
	for _, service := range []string{"web", "engine"} {
		// What is gone for a moment only is remembered by the page itself.
		eval[chromedp.Void](p, `(() => { window.seen = []; window.watcher?.disconnect(); const h = document.querySelector(".health");
			window.watcher = new MutationObserver(() => window.seen.push(h.innerText)); watcher.observe(h, {subtree: true, childList: true, characterData: true}); })()`)
		d.Signal(service, syscall.SIGKILL)
		device.Wait(p.t, "the page notices that "+service+" is gone", func() bool { return strings.Contains(eval[string](p, "seen.join()"), "reconnecting") })
		p.picture("without-" + service)
		p.shows(".health", "live")
		before := number(p.cell("Ports", 1, "Packets"))
		device.Wait(p.t, "the page is up to date again", func() bool { return number(p.cell("Ports", 1, "Packets")) != before })
	}
	d.Signal("engine", syscall.SIGSTOP)
	p.shows(".note", "The service engine does not answer")
	p.shows(".health", "reconnecting")
	if rate := p.cell("Ports", 1, "Rate"); rate != "\u2013" {
		p.t.Errorf("a device that is away has the rate %s", rate)
	}
	p.picture("frozen-engine")
	d.Signal("engine", syscall.SIGCONT)
	p.shows(".health", "live")
	p.hides(".note")
	p.shows("#verdict", "VLAN id is 4000") // what was written is still there
	p.quiet("Failed to load resource")     // which the browser says itself
}

func logOut(p *tab, _ *wired) {
	p.do(chromedp.Click(chromedp.CSS(".bar button")))
	p.shows("h1", "Galvo")
	p.do(chromedp.Reload())
	p.shows("form button", "Log in")
	p.quiet()
}

// number reads a count as the page writes it.
func number(text string) int {
	n, err := strconv.Atoi(strings.ReplaceAll(text, "\u202f", ""))
	if err != nil {
		return -1
	}
	return n
}

// etherType is the type behind all VLAN tags.
func etherType(frame []byte) uint16 {
	for at := 12; at+2 <= len(frame); at += 4 {
		if t := binary.BigEndian.Uint16(frame[at:]); t != 0x8100 && t != 0x88a8 && t != 0x9100 {
			return t
		}
	}
	return 0
}
