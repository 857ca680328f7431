package page

import (
	"context"
	"fmt"
	"strings"

	"github.com/chromedp/chromedp"

	"galvo/ci/device"
	"galvo/ci/rig"
)

// useRings creates a ring, with a rule that is wrong at first, and captures from the past.
func useRings(p *tab, d *wired) {
	p.shows("table[aria-label='Packet ring buffers']", "There is no packet ring buffer")
	p.pick("Start time", "2020-01-01T00:00:00")
	p.shows("#when", "The start is in the past: create a packet ring buffer")
	if p.startable() {
		p.t.Error("the past can be captured without a ring")
	}
	p.pick("Start time", "")

	p.press("Packet ring buffers", "Create ring\u2026")
	p.write("#ringname", "office")
	p.write("#ringsize", "1000000")
	p.shows("#ringroom", "There is room for")
	if eval[bool](p, "!document.querySelector('dialog button.primary').disabled") {
		p.t.Error("a ring can be larger than its device")
	}
	p.write("#ringsize", "64")
	p.pick("Unit", "MB")
	p.press("Packet ring buffers", "Add rule")
	p.pick("For", "vlan")
	p.pick("Value", "40000")
	p.do(chromedp.Click(chromedp.CSS("dialog button.primary")))
	p.shows(".rule [role=alert]", "Rule 1")
	for _, look := range []struct {
		scheme string
		width  int64
	}{{"light", 1280}, {"dark", 400}} {
		p.look(look.scheme, look.width)
		p.accessible()
		p.picture(fmt.Sprintf("ring-%s-%d", look.scheme, look.width))
	}
	p.look("light", 1280)
	p.pick("Value", "4000")
	p.pick("Action", "snap")
	p.do(chromedp.Click(chromedp.CSS("dialog button.primary")))
	p.hides("dialog")
	p.shows("table[aria-label='Packet ring buffers']", "recording")
	p.quiet("400")

	p.press("Packet ring buffers", "Rules\u2026")
	p.shows("dialog h2", "Rules of the ring office")
	if v := eval[string](p, "document.querySelector('.rule input.grow').value"); v != "4000" {
		p.t.Errorf("the ring's rule is shown as VLAN %q", v)
	}
	p.pick("Value", "5000")
	p.key("dialog button.primary", "\r")
	p.shows(".rule [role=alert]", "Rule 1")
	p.focuses("BUTTON Use these rules")
	p.press("Packet ring buffers", "Add rule")
	p.key("button[aria-label='Remove rule 2']", "\r")
	p.focuses("DIALOG Rules of the ring office")
	p.do(chromedp.Click(chromedp.CSS("dialog button.primary")))
	p.shows(".rule [role=alert]", "Rule 1")
	p.accessible()
	p.picture("rules")
	p.pick("Value", "4001")
	p.do(chromedp.Click(chromedp.CSS("dialog button.primary")))
	p.hides("dialog")
	p.do(chromedp.Click(chromedp.CSS("table[aria-label='Packet ring buffers'] summary")))
	p.shows("table[aria-label='Packet ring buffers']", "outer VLAN 4001: first 128 bytes")
	p.quiet("400")

	traffic := rig.Mix(7, 4000)
	var want []string
	for _, f := range traffic {
		if etherType(f.Data) == 0x0806 {
			want = append(want, string(f.Data))
		}
	}
	before := 0
	device.Wait(p.t, "the page shows all that was received", func() bool {
		before = eval[int](p, `fetch("/api/v1/ports").then((r) => r.json()).then((ports) => ports[1].rxPackets)`)
		return number(p.cell("Ports", 2, "Packets")) == before
	})
	if err := d.play(context.Background(), 2, 0, traffic); err != nil {
		p.t.Fatal(err)
	}
	device.Wait(p.t, "the frames are received", func() bool { return number(p.cell("Ports", 2, "Packets")) == before+len(traffic) })
	p.shows("table[aria-label='Packet ring buffers'] td[data-name='Oldest and newest']", "to 2")

	keepPackets(p)

	p.write("#expression", "interface == 2 and macProtocol == ARP")
	p.press("Capture", "5 min")
	p.shows("#when", "From ring office from its oldest packet")
	p.pick("Start time", "2020-01-01T00:00:00")
	p.shows("#when", "The oldest packet of office is of")
	if p.startable() {
		p.t.Error("what the ring does not have can be captured")
	}
	p.accessible()
	p.pick("Start time", "")
	p.pick("End time", "2020-01-01T00:00:00")
	p.shows("#when", "has nothing from before the end: its oldest packet is of 2")
	p.press("Capture", "All recorded")
	device.Wait(p.t, "the capture can be started", p.startable)
	line := eval[string](p, "document.querySelector('.curl input').value")
	if !strings.Contains(line, "&fromCaptureBuffer=true&endTime=") || strings.Contains(line, "ring=") || strings.Contains(line, "undecided") {
		p.t.Errorf("the curl line is %s", line)
	}
	p.press("Capture", "Dry run")
	p.shows("#dryrun", " packets, ")
	p.picture("dry-run")
	if said := p.text("#dryrun"); !strings.HasPrefix(said, "About ") && !strings.HasPrefix(said, fmt.Sprintf("%d packets", len(want))) {
		p.t.Errorf("the dry run says %q of %d packets", said, len(want))
	}
	p.press("Capture", "Analyse")
	p.focuses("H2 Analyses of savefiles")
	p.shows("table[aria-label='Analyses']", "ring office")
	p.shows("table[aria-label='Analyses']", "ready")
	p.press("Analyses of savefiles", "End")
	p.hides("table[aria-label='Analyses']")
	eval[chromedp.Void](p, `document.querySelector("details").open = true`)
	p.pick("Capture to", "http")
	p.pick("File name", "past")
	p.do(chromedp.Click(chromedp.CSS(startButton)))
	p.shows("table[aria-label='Finished captures'] tbody", "ring office to http")
	p.shows("table[aria-label='Finished captures'] tbody", "end time")
	if n := number(p.cell("Finished captures", 1, "Captured")); n != len(want) {
		p.t.Errorf("the capture from the past has %d packets, want %d", n, len(want))
	}
	p.shows("#last", fmt.Sprintf("captured %d; end time", len(want))) // beside where it was started
	p.expect("past", want)
	p.pick("File name", "")
	p.shows("table[aria-label='Finished captures'] tbody tr:first-child summary", "blocks read")
	eval[chromedp.Void](p, `document.querySelector("table[aria-label='Finished captures'] details").open = true`)
	p.shows("table[aria-label='Finished captures'] dl", fmt.Sprintf("of which %d matched", len(want)))
	eval[chromedp.Void](p, `document.querySelector("table[aria-label='Finished captures']").scrollIntoView()`)
	p.picture("scan")

	p.pick("Start time", "")
	p.key("input[type=datetime-local]", "1") // of a day or a month, and nothing else
	p.shows("#when", "The start time is not complete")
	if p.startable() {
		p.t.Error("half a time is taken for none")
	}
	p.press("Capture", "Live")
	p.shows("#when", "Live from now")
	if eval[bool](p, "document.querySelector('input[type=datetime-local]').validity.badInput") {
		p.t.Error("half a time is left in the field")
	}
	p.filter("vlan == 4000")
	device.Wait(p.t, "the filter can be started", p.startable)
	p.quiet()
}

// keepPackets protects what the ring has, and lets it go again.
func keepPackets(p *tab) {
	p.press("Packet ring buffers", "Keep\u2026")
	p.accessible()
	p.picture("keep")
	until := eval[string](p, "document.querySelectorAll('dialog input')[2].value")
	p.pick("Keep until", "2020-01-01T00:00:00")
	p.shows("#kept", "over already")
	p.pick("Keep until", until)
	p.do(chromedp.Click(chromedp.CSS("dialog button.primary")))
	p.hides("dialog")
	p.shows("table[aria-label='Packet ring buffers']", "kept until "+strings.Replace(until, "T", " ", 1))
	eval[chromedp.Void](p, `document.querySelector("table[aria-label='Packet ring buffers']").scrollIntoView()`)
	p.accessible()
	p.picture("kept")
	p.press("Packet ring buffers", "Release")
	device.Wait(p.t, "nothing is kept any more", func() bool { return !strings.Contains(p.text("table[aria-label='Packet ring buffers']"), "kept until") })
}

// deleteRing deletes the ring, after its name is typed.
func deleteRing(p *tab, _ *wired) {
	p.press("Packet ring buffers", "Delete\u2026")
	p.shows("dialog", "will be gone")
	p.accessible()
	p.picture("delete-ring")
	p.write("#confirm", "offic")
	if eval[bool](p, "!document.querySelector('dialog button.primary').disabled") {
		p.t.Error("a ring can be deleted without its name")
	}
	p.write("#confirm", "office")
	p.do(chromedp.KeyEvent("\r"))
	p.shows("table[aria-label='Packet ring buffers']", "There is no packet ring buffer")
	p.quiet()
}

// whole fails the test if text in a table is cut.
func (p *tab) whole() {
	p.t.Helper()
	cut := eval[string](p, `[...document.querySelectorAll("td *")].filter((e) => getComputedStyle(e).overflow !== "visible" &&
		(e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight + 4)).map((e) => e.innerText).join("\n")`)
	if cut != "" {
		p.t.Errorf("not all of this can be read: %s", cut)
	}
}

// seeRings shows the page rings that are hard to come by.
func seeRings(p *tab, _ *wired) {
	if eval[bool](p, "document.querySelector('#panics') !== null") {
		p.t.Error("the page speaks of faults, and there was none")
	}
	eval[chromedp.Void](p, `(() => {
		const parse = JSON.parse;
		window.parseBefore = parse;
		window.role = "admin";
		const t = Date.now() * 1000;
		const ring = {devices: ["data"], sizeBytes: 64e9, usableBytes: 60e9, usedBytes: 60e9, totalBytes: 3e12, packets: 5e9, discarded: 12, dropped: {queue: 0, disk: 0},
			byteRate: 120e6, deviceStates: [{device: "data", state: "active", sizeBytes: 64e9, usedBytes: 60e9}], pins: [], problems: []};
		const rings = [
			{...ring, name: "branch", state: "recording", oldest: t - 7200e6, newest: t, replication: 1, dropped: {queue: 1234567, disk: 2, pinned: 0},
				deviceStates: [...ring.deviceStates, {device: "usb-1", state: "absent", reason: "it was pulled", sizeBytes: 64e9, usedBytes: 60e9}],
				pins: [{startTime: t - 600e6, endTime: t - 60e6, until: t + 3600e6, bytes: 1e9}], problems: ["block 17: its checksum is wrong"],
				rules: [{type: "ip", value: "10.0.0.0/8", negate: true, action: "snap", snapLength: 128}, {type: "all", action: "l4"}]},
			{...ring, name: "new", state: "creating", progress: 42, usableBytes: 0, usedBytes: 0, totalBytes: 0, byteRate: 0},
			{...ring, name: "broken", state: "failed", reason: "create ring: no space left on device"},
			{...ring, name: "w".repeat(63), state: "recording", oldest: t - 7200e6, newest: t, deviceStates: [{device: "usb-1", state: "absent", reason: "it was pulled", sizeBytes: 0, usedBytes: 0}]},
		];
		const capture = {id: "x", user: "admin", client: "127.0.0.1:1", sink: "disk", device: "usb-1", directory: "a/directory/with/a/long/name", fileName: "capture.pcapng", source: "branch", expression: "port == 9", state: "finished", reason: "end time",
			startTime: t, endTime: t, captured: 0, dropped: 0, ignored: 7, held: 0, lost: 0, bytes: 0, bitRate: 0, scan: {blocks: 4096, read: 0, bytes: 0, packets: 0, matched: 0,
			undecided: 3, disorder: 2, startTime: t - 7200e6, endTime: t, gaps: [{startTime: t - 60e6, endTime: t - 50e6, reason: "damaged"}], empty: "none of the ring's blocks has it"}};
		JSON.parse = (text) => {
			const v = parse(text);
			if (v?.fingerprint) return {...v, role: window.role};
			if (v?.devices) return {devices: v.devices.concat({...v.devices[0], id: "usb-1", name: "stick with a name that is not short at all", state: "inactive"})};
			if (!v?.ports || !v.rings) return v;
			const lost = {lostKernel: 7, gaps: [{start: t - 60e6, end: t - 50e6, lost: 7, cause: "engine"}]};
			const finished = [...Array(100).keys()].map((i) => ({...capture, id: String(i), ...(i === 1 && {dropped: 2205, reason: "storage full"})}));
			return {...v, ports: v.ports.map((p) => ({...p, ...lost})), rings, finished, panics: 1234};
		};
	})()`)
	for _, text := range []string{"creating 42 %", "no space left on device", "absent: it was pulled", "Block 17: its checksum is wrong", "1\u202f234\u202f567 dropped (queue)", "2 dropped (disk)", "2 rules", "kept until"} {
		p.shows("table[aria-label='Packet ring buffers']", text)
	}
	p.shows("section[aria-label='Protocols']", "1\u202f234 packets went on without an application protocol, because of a fault in Galvo")
	if n := number(p.cell("Packet ring buffers", 1, "Dropped")); n != 1234569 {
		p.t.Errorf("the ring dropped %d in all", n)
	}
	if said := p.cell("Packet ring buffers", 1, "State"); strings.Contains(said, "pinned") {
		p.t.Errorf("%q names a cause of which there is nothing", said)
	}
	p.shows("table[aria-label='Finished captures'] summary", "1 gap")
	p.shows("table[aria-label='Finished captures'] tbody", "a/directory/with/a/long/name/capture.pcapng on stick with a name that is not short at all")
	p.shows("table[aria-label='Finished captures'] tbody", "None of the ring's blocks has it")
	p.shows("table[aria-label='Finished captures'] tbody", "Stopped: the storage device stick with a name that is not short at all was full: 2\u202f205 packets that matched are not in the file")
	p.shows("#last", "captured 0; none of the ring's blocks has it")
	eval[chromedp.Void](p, "window.confirm = (text) => { window.question = text; return false; }")
	p.press("Storage", "Deactivate")
	if said := eval[string](p, "question"); !strings.Contains(said, "the rings branch, new, broken, www") {
		p.t.Errorf("who deactivates a device of rings is asked %q", said)
	}
	p.pick("Source", "new")
	p.shows("#when", "The ring new cannot be read: it is creating")
	if p.startable() {
		p.t.Error("a ring that is not there yet can be captured from")
	}
	p.pick("Source", "branch")
	device.Wait(p.t, "the curl line names the ring", func() bool {
		return strings.Contains(eval[string](p, "document.querySelector('.curl input').value"), "&fromCaptureBuffer=true&ring=branch'")
	})
	eval[chromedp.Void](p, `(() => { for (const d of document.querySelectorAll("td details")) d.open = true; })()`)
	for _, text := range []string{"all but IP 10.0.0.0/8: first 128 bytes", "all packets: up to the layer 4 header"} {
		p.shows("table[aria-label='Packet ring buffers'] ol", text)
	}
	p.shows("table[aria-label='Finished captures'] dl", "damaged")
	p.shows("table[aria-label='Ports'] li", ": 7 (engine)")
	captures := func(n int) {
		device.Wait(p.t, fmt.Sprintf("%d captures are listed", n), func() bool {
			return eval[int](p, `document.querySelectorAll("table[aria-label='Finished captures'] tbody code").length`) == n
		})
	}
	captures(10)
	p.press("Finished captures", "Show all 100")
	captures(100)
	p.press("Finished captures", "Show only 10")
	captures(10)
	for _, width := range []int64{1280, 400} {
		for _, scheme := range []string{"light", "dark"} {
			p.look(scheme, width)
			p.accessible()
			eval[chromedp.Void](p, `document.querySelector("section[aria-label='Finished captures']").scrollIntoView()`)
			p.picture(fmt.Sprintf("rings-%s-%d", scheme, width))
			eval[chromedp.Void](p, `document.querySelector("section[aria-label='Protocols']").scrollIntoView()`)
			p.picture(fmt.Sprintf("faults-%s-%d", scheme, width))
			p.whole()
			if wide := eval[int64](p, "document.documentElement.scrollWidth"); wide > width {
				p.t.Errorf("the page is %d wide in a window of %d", wide, width)
			}
		}
	}
	p.look("light", 1280)
	p.pick("Source", "")
	p.shows("section[aria-label='Files']", "New directory")
	eval[chromedp.Void](p, `(() => { window.role = "capture"; })()`)
	device.Wait(p.t, "who is no admin is not offered to create and delete rings, nor to deactivate storage", func() bool {
		text := p.text("section[aria-label='Packet ring buffers']")
		return strings.Contains(text, "Keep\u2026") && !strings.Contains(text, "Delete\u2026") && !strings.Contains(text, "Create ring\u2026") &&
			!strings.Contains(p.text("section[aria-label='Storage']"), "Deactivate")
	})
	eval[chromedp.Void](p, `(() => { window.role = "viewer"; })()`)
	p.hides("section[aria-label='Files']") // who may not list files is not told that there are none
	eval[chromedp.Void](p, "(() => { JSON.parse = window.parseBefore; })()")
	p.shows("table[aria-label='Packet ring buffers']", "There is no packet ring buffer")
	p.quiet("409") // the device has none of these rings, and says so when the filter is checked against one
}
