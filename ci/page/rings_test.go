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
	device.Wait(p.t, "the dialog is gone", func() bool { return p.text("dialog") == "" })
	p.shows("table[aria-label='Packet ring buffers']", "recording")
	p.quiet("400")

	traffic := rig.Mix(7, 4000)
	var want []string
	for _, f := range traffic {
		if etherType(f.Data) == 0x0806 {
			want = append(want, string(f.Data))
		}
	}
	before := number(p.cell("Ports", 2, "Packets"))
	if err := d.play(context.Background(), 2, 0, traffic); err != nil {
		p.t.Fatal(err)
	}
	device.Wait(p.t, "the frames are received", func() bool { return number(p.cell("Ports", 2, "Packets")) == before+len(traffic) })
	p.shows("table[aria-label='Packet ring buffers'] td[data-name='Oldest and newest']", "to 2")

	p.write("#expression", "interface == 2 and macProtocol == ARP")
	p.press("Capture", "5 min")
	p.shows("#when", "From ring office from its oldest packet")
	p.pick("Start time", "2020-01-01T00:00:00")
	p.shows("#when", "The oldest packet of office is of")
	if p.startable() {
		p.t.Error("what the ring does not have can be captured")
	}
	p.accessible()
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
	eval[chromedp.Void](p, `document.querySelector("details").open = true`)
	p.pick("Capture to", "http")
	p.pick("File name", "past")
	p.do(chromedp.Click(chromedp.CSS(startButton)))
	p.shows("table[aria-label='Finished captures'] tbody", "ring office to http")
	p.shows("table[aria-label='Finished captures'] tbody", "end of the interval")
	if n := number(p.cell("Finished captures", 1, "Captured")); n != len(want) {
		p.t.Errorf("the capture from the past has %d packets, want %d", n, len(want))
	}
	p.expect("past", want)
	p.pick("File name", "")
	p.shows("table[aria-label='Finished captures'] tbody tr:first-child summary", "blocks read")
	eval[chromedp.Void](p, `document.querySelector("table[aria-label='Finished captures'] details").open = true`)
	p.shows("table[aria-label='Finished captures'] dl", fmt.Sprintf("of which %d matched", len(want)))
	eval[chromedp.Void](p, `document.querySelector("table[aria-label='Finished captures']").scrollIntoView()`)
	p.picture("scan")

	p.press("Capture", "Live")
	p.shows("#when", "Live from now")
	p.write("#expression", "vlan == 4000")
	device.Wait(p.t, "the filter can be started", p.startable)
	p.quiet()
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
