package page

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"galvo/ci/device"
	"galvo/ci/rig"
)

// keepPlace works with the keyboard alone: the focus is never lost.
func keepPlace(p *tab, _ *wired) {
	p.filter("vlan == 4000")
	p.do(chromedp.KeyEvent("\r"))
	p.key("table[aria-label='Running captures'] tbody button", "\r")
	p.shows("table[aria-label='Running captures']", "No capture is running")
	p.focuses("H2 Running captures") // and not the Stop of another row
	eval[chromedp.Void](p, "window.confirm = () => true")
	p.key("section[aria-label='Finished captures'] .title button", "\r")
	p.shows("table[aria-label='Finished captures']", "will be listed here")
	p.focuses("H2 Finished captures")
	p.key("section[aria-label='Packet ring buffers'] .title button", "\r")
	p.focuses("INPUT ringname")
	p.do(chromedp.KeyEvent("\x1b"))
	p.hides("dialog")
	p.focuses("BUTTON Create ring\u2026")
	p.do(chromedp.KeyEvent("\r"))
	p.focuses("INPUT ringname")
	eval[chromedp.Void](p, "[...document.querySelectorAll('dialog button')].find((b) => b.innerText === 'Cancel').click()")
	p.focuses("BUTTON Create ring\u2026")
	p.quiet()
}

// goBack reloads the page, and goes back to the filter before.
func goBack(p *tab, _ *wired) {
	value := func() string { return eval[string](p, "document.querySelector('#expression')?.value ?? ''") }
	const typed = "regexp == \"50 % & #1 + \u00e4\""
	p.filter(typed)
	p.do(chromedp.Reload())
	device.Wait(p.t, "what was typed is there after a reload", func() bool { return value() == typed })
	p.shows(".health", "live")
	p.do(chromedp.Click(chromedp.CSS("table[aria-label='Layer 4 protocols'] tbody button")))
	device.Wait(p.t, "the filter is that of the button", func() bool { return strings.HasPrefix(value(), "l4Protocol") })
	eval[chromedp.Void](p, "history.back()")
	device.Wait(p.t, "the filter before is back", func() bool { return value() == typed })
	p.quiet()
}

// setClocks puts the page into a zone whose clocks are set back, and sets the computer's clock wrong.
func setClocks(p *tab, _ *wired) {
	zone := func(name string) {
		if _, err := chromedp.Call(p.ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: name}); err != nil {
			p.t.Fatal(err)
		}
	}
	zone("Europe/Berlin")
	p.pick("Start time", "2037-10-25T02:10:00")
	p.pick("End time", "2037-10-25T02:30:00")
	p.shows("#when", "UTC+0") // one of the two is in another offset than now
	line := eval[string](p, "document.querySelector('.curl input').value")
	times := regexp.MustCompile(`startTime=(\d+)&endTime=(\d+)`).FindStringSubmatch(line)
	if times == nil {
		p.t.Fatalf("the curl line is %s", line)
	}
	start, _ := strconv.Atoi(times[1])
	end, _ := strconv.Atoi(times[2])
	if minutes := (end - start) / 60e6; minutes != 80 {
		p.t.Errorf("an interval that holds both 02:30 has %d minutes, want 80", minutes)
	}
	p.pick("Start time", "")
	p.pick("End time", "")
	zone("")
	eval[chromedp.Void](p, "(() => { window.now = Date.now; Date.now = () => window.now() - 3600000; })()")
	p.shows("#clock", "ahead of that of this computer")
	p.accessible()
	eval[chromedp.Void](p, "(() => { Date.now = window.now; })()")
	p.hides("#clock")
	p.quiet()
}

// waitForVerdict types while the device takes its time to check filters.
func waitForVerdict(p *tab, _ *wired) {
	p.filter("vlan == 1")
	eval[chromedp.Void](p, `(() => {
		const real = window.fetch;
		window.answer = [];
		window.fetchBefore = real;
		window.fetch = (to, how) => String(to).endsWith("/filter/check") ? new Promise((done) => window.answer.push(done)).then(() => real(to, how)) : real(to, how);
	})()`)
	asked := func(n int) {
		device.Wait(p.t, "the device is asked", func() bool { return eval[int](p, "answer.length") == n })
	}
	p.write("#expression", "vlan == 2")
	asked(1)
	p.write("#expression", "vlan == ")
	p.shows("#verdict", "Checking")
	eval[chromedp.Void](p, "(() => { answer[0](); })()")
	asked(2)
	if p.startable() {
		p.t.Error("the verdict on another text lets a wrong filter start")
	}
	eval[chromedp.Void](p, "(() => { window.fetch = window.fetchBefore; answer[1](); })()")
	p.shows("#verdict", "Column ")
	if p.startable() {
		p.t.Error("a wrong filter can be started")
	}
	p.filter("vlan == 4000")
	p.quiet()
}

// rest leaves the page alone: it asks for little, and for nothing when nobody sees it.
func rest(p *tab, _ *wired) {
	sent := eval[string](p, `new Promise((done) => {
		const sent = [];
		const events = new EventSource("/api/v1/events");
		events.addEventListener("snapshot", (e) => {
			sent.push("finished" in JSON.parse(e.data));
			if (sent.length < 3) return;
			events.close();
			done(sent.join());
		});
	})`)
	if sent != "true,false,false" {
		p.t.Errorf("the finished captures are in the events so: %s; none ended meanwhile", sent)
	}
	p.shows("table[aria-label='Finished captures'] tbody", "macProtocol")
	packets := func() int { return number(p.cell("Ports", 1, "Packets")) }
	eval[chromedp.Void](p, `(() => {
		const real = window.fetch;
		window.fetchBefore = real;
		window.asked = 0;
		window.fetch = (to, how) => { window.asked++; return real(to, how); };
		window.unseen = true;
		Object.defineProperty(document, "hidden", {configurable: true, get: () => window.unseen});
		document.dispatchEvent(new Event("visibilitychange"));
	})()`)
	const periods = "new Promise((done) => setTimeout(done, 3500))" // longer than any of the page's
	before := packets()
	eval[chromedp.Void](p, periods)
	if asked, now := eval[int](p, "asked"), packets(); asked != 0 || now != before {
		p.t.Errorf("a page that nobody sees asked %d times, and the packets of port 1 went from %d to %d", asked, before, now)
	}
	eval[chromedp.Void](p, `(() => {
		window.unseen = false;
		document.dispatchEvent(new Event("visibilitychange"));
		delete document.hidden;
		window.fetch = window.fetchBefore;
	})()`)
	device.Wait(p.t, "the page is up to date again", func() bool { return packets() > before })
	p.quiet()
}

// fail has the page make a mistake: it does not go on as if nothing were.
func fail(p *tab, _ *wired) {
	eval[chromedp.Void](p, "setTimeout(() => undefined.toFixed())")
	p.shows(".notice", "This page has a fault")
	p.do(chromedp.KeyEvent("\x1b"))
	p.hides(".notice")
	p.quiet("toFixed")
}

// paste has a shell run the curl line, to the terminal and to disk.
func paste(p *tab, d *wired) {
	const odd = "interface == 2 and (macProtocol == ARP or regexp == \"it's $HOME `id` !! \\\\d 100% & #\")"
	const comment = "it's $PATH & 50 % more"
	p.filter(odd)
	device.Wait(p.t, "the filter can be started", p.startable)
	eval[chromedp.Void](p, "document.querySelector('details').open = true")
	p.pick("Capture to", "http")
	p.pick("Stop after packets", "3")
	p.pick("Stop after seconds", "50")
	p.pick("Packet length", "64")
	p.pick("Comment", comment)
	const tick = "[...document.querySelectorAll('label')].find((l) => l.innerText.startsWith('Device in comment')).querySelector('input').click()"
	eval[chromedp.Void](p, tick)
	shell := func() (*exec.Cmd, string) {
		line := eval[string](p, "document.querySelector('.curl input').value")
		out := filepath.Join(p.t.TempDir(), "out")
		line = strings.Replace(line, "| wireshark -k -i -", "", 1)
		line = strings.Replace(line, " -u admin ", " -u 'admin:"+device.Password+"' ", 1)
		cmd := exec.Command("bash", "-c", line+" > "+out)
		cmd.Stderr = os.Stderr
		if err := d.Netns.Start(cmd); err != nil {
			p.t.Fatal(err)
		}
		return cmd, out
	}
	cmd, out := shell()
	p.shows("table[aria-label='Running captures'] code", odd)
	if err := d.play(context.Background(), 2, 0, rig.Mix(7, 4000)); err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		p.t.Fatal(err)
	}
	frames, err := rig.ReadFile(out)
	if err != nil || len(frames) != 3 {
		p.t.Errorf("the shell got %d packets, want 3: %v", len(frames), err)
	}
	b, err := os.ReadFile(out)
	if err != nil || !strings.Contains(string(b), comment) || !strings.Contains(string(b), "memory") {
		p.t.Errorf("the file has not the comment, and what device it is from: %v", err)
	}

	p.pick("Capture to", "disk")
	p.pick("Directory", "office")
	p.pick("File name", "it's")
	cmd, out = shell()
	if err := cmd.Wait(); err != nil {
		p.t.Fatal(err)
	}
	b, err = os.ReadFile(out)
	if err != nil || !strings.Contains(string(b), `"directory":"office"`) {
		p.t.Errorf("the device answered %s, %v", b, err)
	}
	p.shows("table[aria-label='Running captures']", "office/it")
	p.press("Running captures", "Stop")
	for label, value := range map[string]string{"Capture to": "http", "Stop after packets": "", "Stop after seconds": "", "Packet length": "", "Comment": ""} {
		p.pick(label, value)
	}
	eval[chromedp.Void](p, tick)
	p.filter("vlan == 4000")
	p.quiet()
}

// endSession ends the session behind the page's back.
func endSession(p *tab, _ *wired) {
	eval[chromedp.Void](p, `fetch("/api/v1/logout", {method: "POST", headers: {"X-Requested-With": "galvo"}}).then(() => undefined)`)
	p.shows("form", "Your session has ended")
	p.accessible()
	p.write("input[type=password]", device.Password)
	p.do(chromedp.KeyEvent("\r"))
	p.shows(".health", "live")
	p.shows("#verdict", "VLAN id is 4000")
	p.quiet("401")
}
