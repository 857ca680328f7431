package page

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromedp/chromedp"

	"galvo/ci/device"
	"galvo/ci/rig"
)

// press clicks the button of a part of the page that has this text.
func (p *tab) press(section, text string) {
	p.t.Helper()
	device.Wait(p.t, fmt.Sprintf("%s has a button %s", section, text), func() bool {
		return eval[bool](p, fmt.Sprintf(`(() => {
			const b = [...document.querySelectorAll("section[aria-label='%s'] button, section[aria-label='%s'] a.button")].find((b) => b.innerText === %q);
			b?.click();
			return b !== undefined && !b.disabled;
		})()`, section, section, text))
	})
}

// pick gives the field with a label, or what is labelled so, a value at once.
func (p *tab) pick(label, value string) {
	p.t.Helper()
	device.Wait(p.t, "there is a field "+label, func() bool {
		return eval[bool](p, fmt.Sprintf(`(() => {
			const named = (e) => (e.getAttribute("aria-label") ?? e.closest("label")?.innerText ?? "").startsWith(%q);
			const field = [...document.querySelectorAll("input, select")].findLast(named);
			if (field === undefined) return false;
			field.value = %q;
			field.dispatchEvent(new Event("input", {bubbles: true}));
			field.dispatchEvent(new Event("change", {bubbles: true}));
			return true;
		})()`, label, value))
	})
}

// choose ticks the box of a file.
func (p *tab) choose(name string) {
	p.t.Helper()
	p.shows("table[aria-label='Files']", name)
	p.do(chromedp.Click(chromedp.CSS(fmt.Sprintf("input[aria-label='Choose %s']", name))))
}

// useStorage uploads a savefile, has it analysed, captures to the device, downloads and deletes.
func useStorage(p *tab, d *wired) {
	p.shows("table[aria-label='Storage']", "active")
	p.shows("table[aria-label='Files']", "There is no file here")
	eval[chromedp.Void](p, `(() => { window.confirm = () => true; window.prompt = () => "office/../elsewhere"; })()`)
	p.press("Files", "New directory")
	p.shows(".notice", "A path may have neither . nor .. in it")
	eval[chromedp.Void](p, `(() => { window.prompt = () => "office"; })()`)
	p.press("Files", "New directory")
	p.press("Files", "office/")
	file := filepath.Join(p.t.TempDir(), "mix.pcap")
	frames := rig.Mix(31, 2000)
	if err := rig.WritePcap(file, frames); err != nil {
		p.t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	// An upload broke off after 1,000 bytes. It goes on there, also when the connection breaks once more.
	eval[chromedp.Void](p, fmt.Sprintf(`fetch("/api/v1/storage/data/files/office/mix.pcap?offset=0&total=%d", {method: "POST", headers: {"X-Requested-With": "galvo"},
		body: Uint8Array.from(atob(%q), (c) => c.charCodeAt(0))}).then(() => undefined)`, len(b), base64.StdEncoding.EncodeToString(b[:1000])))
	p.shows("table[aria-label='Files']", "mix.pcap.part")
	eval[chromedp.Void](p, `(() => {
		const real = window.fetch;
		window.offsets = [];
		window.fetch = (to, how) => {
			const offset = /\?offset=(\d+)/.exec(to)?.[1];
			if (offset === undefined) return real(to, how);
			return window.offsets.push(offset) === 1 ? Promise.reject(new TypeError("broken")) : real(to, how);
		};
	})()`)
	eval[chromedp.Void](p, fmt.Sprintf(`(() => {
		const all = new DataTransfer();
		all.items.add(new File([Uint8Array.from(atob(%q), (c) => c.charCodeAt(0))], "mix.pcap"));
		const field = document.querySelector("section[aria-label=Files] input[type=file]");
		field.files = all.files;
		field.dispatchEvent(new Event("change", {bubbles: true}));
	})()`, base64.StdEncoding.EncodeToString(b)))
	p.choose("mix.pcap")
	if offsets := eval[string](p, "offsets.join()"); offsets != "1000,1000" {
		p.t.Errorf("the upload went on at %s", offsets)
	}
	p.press("Files", "Analyse")
	p.focuses("H2 Analyses of savefiles") // which may be far from the files
	p.shows("table[aria-label='Analyses']", "ready")
	if n := number(p.cell("Analyses", 1, "Packets")); n != len(frames) {
		p.t.Errorf("the analysis has %d packets, want %d", n, len(frames))
	}
	p.press("Analyses of savefiles", "Show")
	device.Wait(p.t, "the ports are those of the savefile", func() bool { return number(p.cell("Ports", 1, "Packets")) == len(frames) })
	p.shows("main > .note", "slot 1")
	for _, scheme := range []string{"light", "dark"} {
		p.look(scheme, 1280)
		p.accessible()
		p.picture("slot-" + scheme)
	}
	p.look("light", 1280)
	p.press("Analyses of savefiles", "Back to live traffic")
	device.Wait(p.t, "the ports are live again", func() bool { return number(p.cell("Ports", 1, "Packets")) != len(frames) })
	p.press("Analyses of savefiles", "End")
	device.Wait(p.t, "the slot is free", func() bool { return p.text("table[aria-label='Analyses']") == "" })

	// To the device, into the directory. What was refused is not said any more when it is done.
	const directory = "details label:has(input[placeholder='top of the device']) input"
	p.filter("macProtocol == ARP")
	device.Wait(p.t, "the filter can be started", p.startable)
	eval[chromedp.Void](p, `document.querySelector("details").open = true`)
	p.pick("Capture to", "disk")
	p.write(directory, "nowhere")
	p.do(chromedp.Click(chromedp.CSS(startButton)))
	p.shows(".notice", "There is no directory nowhere on data: make it first")
	p.write(directory, "office")
	if line := eval[string](p, "document.querySelector('.curl input').value"); !strings.Contains(line, "captureToMedia=true") || strings.Contains(line, "wireshark") {
		p.t.Errorf("the curl line is %s", line)
	}
	p.do(chromedp.Click(chromedp.CSS(startButton)))
	p.shows("table[aria-label='Running captures']", "office/galvo_")
	if said := p.text(".notice"); said != "" {
		p.t.Errorf("the capture runs, and the page says %q", said)
	}
	if err := d.play(context.Background(), 2, 0, rig.Mix(7, 4000)); err != nil {
		p.t.Fatal(err)
	}
	device.Wait(p.t, "packets are captured", func() bool { return number(p.cell("Running captures", 1, "Captured")) > 0 })
	p.press("Running captures", "Stop")
	p.shows("table[aria-label='Finished captures']", "office/galvo_")
	p.shows("#last", "stopped by admin") // beside where it was started
	p.shows("table[aria-label='Files']", "macProtocol")
	p.do(chromedp.ScrollIntoView(chromedp.CSS("table[aria-label='Files']")))
	p.picture("files")
	p.do(chromedp.Click(chromedp.CSS("a[aria-label^='Download galvo_']")))
	device.Wait(p.t, "the file is downloaded", func() bool {
		files, _ := filepath.Glob(filepath.Join(p.downloads, "*macProtocol*.pcapng"))
		for _, f := range files {
			if got, err := rig.ReadFile(f); err == nil && len(got) > 0 {
				return true
			}
		}
		return false
	})
	p.choose("mix.pcap")
	p.press("Files", "Delete")
	device.Wait(p.t, "the file is gone", func() bool { return !strings.Contains(p.text("table[aria-label='Files']"), "mix.pcap") })
	// Others have put files on the device whose names are no text, or not to be seen.
	for _, name := range []string{"\xff.pcap", "a\nb.pcap"} {
		if err := os.WriteFile(filepath.Join(d.State, "data", "office", name), nil, 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	eval[chromedp.Void](p, `(() => { window.questions = []; window.confirm = (q) => window.questions.push(q) > 0; window.prompt = (_, was) => "office/" + encodeURIComponent(was); })()`)
	p.shows("table[aria-label='Files']", "a\u240ab.pcap")
	p.do(chromedp.Click(chromedp.CSS("input[aria-label$='\ufffd.pcap']")))
	p.press("Files", "Rename")
	p.choose("office%2F%EF%BF%BD.pcap")
	p.press("Files", "Delete")
	device.Wait(p.t, "the file is gone", func() bool { return !strings.Contains(p.text("table[aria-label='Files']"), "BD.pcap") })
	p.do(chromedp.Click(chromedp.CSS("input[aria-label$='b.pcap']")))
	p.press("Files", "Delete")
	device.Wait(p.t, "the file is gone", func() bool { return !strings.Contains(p.text("table[aria-label='Files']"), "b.pcap") })
	if asked := eval[string](p, "questions.join('; ')"); asked != "Delete office/office%2F%EF%BF%BD.pcap?; Delete office/a\u240ab.pcap?" {
		p.t.Errorf("before files were deleted the page asked: %s", asked)
	}
	p.press("Storage", "Deactivate")
	p.shows("table[aria-label='Storage']", "inactive")
	p.press("Storage", "Activate")
	p.shows("table[aria-label='Files']", "office/")
	p.filter("vlan == 4000")
	device.Wait(p.t, "the filter can be started", p.startable)
	p.quiet("400") // there is no directory nowhere
}

// seeDisks shows the page disks that this machine need not have.
func seeDisks(p *tab, _ *wired) {
	eval[chromedp.Void](p, `(() => {
		const real = window.fetch;
		window.asked = [];
		const disk = {kind: "disk", path: "/dev/sdb", model: "Stick", serial: "4C53", transport: "usb", encrypted: false, health: "unknown", healthNote: "why", bytes: 64e9, freeBytes: 0, ringBytes: 0, ringFreeBytes: 0, ringShare: 0};
		window.fetch = (to, how) => {
			if (how?.method === "POST" && to.includes("/storage/usb-")) window.asked.push(to + " " + how.body);
			else if (to.includes("/storage/usb-5/")) return Promise.resolve(new Response(JSON.stringify({device: "usb-5", path: "", bytes: 0, freeBytes: 1e9,
				files: ["a_10.pcap", "a_9.pcap", "z"].map((name) => ({name, path: name, type: name === "z" ? "directory" : "file", bytes: 1, modified: 0}))})));
			else if (!to.endsWith("/storage")) return real(to, how);
			else return Promise.resolve(new Response(JSON.stringify({devices: [
				{...disk, id: "usb-1", name: "stick 1", state: "unformatted", reason: "it is empty: format it"},
				{...disk, id: "usb-2", name: "stick 2", state: "locked", encrypted: true, reason: "it is encrypted"},
				{...disk, id: "usb-3", name: "stick 3", state: "formatting", progress: 42},
				{...disk, id: "usb-4", name: "stick 4", state: "inactive", health: "failing", healthNote: "it takes no more writes"},
				{...disk, id: "usb-5", name: "stick 5", state: "active"},
				{...disk, id: "usb-6", name: "stick 6", state: "active"},
			]})));
			return Promise.resolve(new Response("{}"));
		};
		window.fetchBefore = real;
	})()`)
	p.shows("table[aria-label='Storage']", "formatting 42 %")
	p.shows("table[aria-label='Storage']", "active, no room for captures")
	p.press("Storage", "Format\u2026")
	p.shows("dialog", "Everything on /dev/sdb (64.0 GB, Stick) will be deleted")
	for _, scheme := range []string{"light", "dark"} {
		p.look(scheme, 1280)
		p.accessible()
		p.picture("format-" + scheme)
	}
	ready := func() bool { return eval[bool](p, "!document.querySelector('dialog button.primary').disabled") }
	if ready() {
		p.t.Error("a disk can be formatted without its name")
	}
	p.write("#confirm", "stick 2")
	if ready() {
		p.t.Error("a disk can be formatted with the name of another one")
	}
	p.write("#confirm", "stick 1")
	device.Wait(p.t, "the disk can be formatted", ready)
	const encrypt = "document.querySelector('dialog input[type=checkbox]').click()"
	eval[chromedp.Void](p, encrypt)
	p.write("dialog label:nth-of-type(3) input", "secret")
	p.write("dialog label:nth-of-type(4) input", "secert")
	if ready() {
		p.t.Error("a disk can be encrypted with a password that was mistyped")
	}
	p.write("dialog label:nth-of-type(4) input", "secret")
	device.Wait(p.t, "the disk can be encrypted", ready)
	eval[chromedp.Void](p, encrypt)
	p.do(chromedp.Click(chromedp.CSS("dialog button.primary")))
	p.hides("dialog")
	if asked := eval[string](p, "asked.join()"); asked != `/api/v1/storage/usb-1/format {"confirm":"stick 1","ringShare":0,"encrypt":false}` {
		p.t.Errorf("asked for %s", asked)
	}
	p.press("Storage", "Activate\u2026")
	p.write("dialog input[type=password]", "secret")
	p.do(chromedp.KeyEvent("\r"))
	p.hides("dialog")
	if asked := eval[string](p, "asked.pop()"); asked != `/api/v1/storage/usb-2/activate {"password":"secret"}` {
		p.t.Errorf("asked for %s", asked)
	}
	if names := eval[string](p, "[...document.querySelectorAll(\"table[aria-label='Files'] td[data-name='Name']\")].map((td) => td.innerText.trim()).join()"); names != "z/,a_9.pcap,a_10.pcap" {
		p.t.Errorf("the files are in the order %s", names)
	}
	eval[chromedp.Void](p, "document.querySelector('details').open = true")
	p.pick("Capture to", "disk")
	const shown = "[...document.querySelectorAll('form label')].find((l) => l.innerText.startsWith('Storage device'))?.querySelector('select').selectedOptions[0]?.text ?? ''"
	device.Wait(p.t, "the form says to which device", func() bool { return eval[string](p, shown) == "stick 5" })
	if more := p.text("form summary"); more != "More: 4 set" {
		p.t.Errorf("%q does not say that destination, device, directory and file name are below it", more)
	}
	p.pick("Capture to", "http")
	p.look("dark", 400)
	p.accessible()
	p.picture("disks-dark-400")
	p.look("light", 1280)
	eval[chromedp.Void](p, "(() => { window.fetch = window.fetchBefore; })()")
	device.Wait(p.t, "the storage is that of the device", func() bool { return !strings.Contains(p.text("table[aria-label='Storage']"), "stick") })
	p.quiet("404") // the files of a stick were asked for once more
}
