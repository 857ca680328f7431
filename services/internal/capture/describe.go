package capture

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"galvo/services/api"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
)

// section returns what the section header says: who wrote it, the user's comment, and what was scanned if nothing was found.
func (c *Capture) section(scanned string) pcapng.Section {
	var lines []string
	for _, s := range []string{c.spec.Comment, c.spec.DeviceInfo, scanned} {
		if s != "" {
			lines = append(lines, s)
		}
	}
	return pcapng.Section{
		Hardware:    c.of.Hardware,
		OS:          c.of.OS,
		Application: c.of.Application,
		Comment:     strings.Join(lines, "\n"),
	}
}

// iface returns the description of an interface. All of the output have the same snap length, because libpcap refuses others; a frame check
// sequence is never part of a packet.
func (c *Capture) iface(in *pipeline.Interface) pcapng.Interface {
	return pcapng.Interface{
		Name: in.Name, Description: in.Description, Link: in.Link, MAC: in.MAC, SpeedBits: in.SpeedBits,
		Filter: c.spec.Expression, SnapLen: c.spec.SnapLen,
	}
}

// scanned says why there is no packet in the output; and of a ring in any case what was looked at.
func (c *Capture) scanned() string {
	forgotten := ""
	if n := c.forgotten.Load(); n > 0 {
		forgotten = fmt.Sprintf(" %d TCP packets were judged without what came before in their stream, because there was no memory to keep that.", n)
	}
	if c.spec.Scan != nil {
		return scanWords(c.scan()) + forgotten
	}
	return "No packet captured: " + c.empty() + "." + forgotten
}

// empty says why there is no packet in the output of a capture that does not read a ring.
func (c *Capture) empty() string {
	if c.untilReason == endPassed {
		return endPassed
	}
	if e := c.end.Load(); e != nil && e.reason == limitTooLow {
		return limitTooLow
	}
	if why := c.outside(); why != "" {
		return why
	}
	source := cmp.Or(c.spec.Source, "the input")
	total := c.counts()
	if total.looked == 0 {
		return fmt.Sprintf("no frame came from %s while the capture ran", source)
	}
	what := "no filter"
	if c.spec.Expression != "" {
		what = "the filter " + c.spec.Expression
	}
	s := fmt.Sprintf("%d frames of %s were compared with %s: %d did not match", total.looked, source, what, total.looked-total.captured-total.dropped-total.held)
	if n := total.dropped + total.captured; n != 0 {
		s += fmt.Sprintf(", %d were dropped", n)
	}
	if total.held != 0 {
		s += fmt.Sprintf(", %d wait for the verdict of their flow", total.held)
	}
	return s
}

// scanWords says what was looked at in a ring.
func scanWords(s api.Scan) string {
	words := fmt.Sprintf("%d of %d blocks were read (%d bytes): %d packets were looked at, %d matched.", s.Read, s.Blocks, s.Bytes, s.Packets, s.Matched)
	if s.StartTime != 0 {
		words += fmt.Sprintf(" The ring has packets of the interval from %s to %s.", moment(s.StartTime), moment(s.EndTime))
	}
	if s.Until != 0 {
		words += fmt.Sprintf(" The interval was looked at up to %s.", moment(s.Until))
	}
	if s.Undecided != 0 {
		words += fmt.Sprintf(" %d packets were left out because their flow never got a verdict on which the filter could decide.", s.Undecided)
	}
	if s.Disorder != 0 {
		words += fmt.Sprintf(" %d packets come after a later one, because the reorder buffer was too small.", s.Disorder)
	}
	if s.Dropped != 0 {
		words += fmt.Sprintf(" About %d packets of the interval are not in the ring, because its disks or its queue could not take them.", s.Dropped)
	}
	if s.Lost != 0 {
		words += fmt.Sprintf(" About %d frames of the interval were lost before they came to the ring: the device or its ports were too slow.", s.Lost)
	}
	for _, g := range s.Gaps[:min(len(s.Gaps), 100)] {
		words += fmt.Sprintf(" From %s to %s packets may be missing: %s.", moment(g.StartTime), moment(g.EndTime), g.Reason)
	}
	if n := len(s.Gaps); n > 100 {
		words += fmt.Sprintf(" So it is at %d more times.", n-100)
	}
	if s.Empty != "" {
		words += " Nothing matched: " + s.Empty
	}
	return words
}

// moment writes a time in microseconds since the epoch.
func moment(t int64) string { return time.UnixMicro(t).UTC().Format("2006-01-02 15:04:05.000000 UTC") }

// statistics returns what was counted for interface i of the output. The lanes are at rest, and everything queued was delivered.
func (c *Capture) statistics(i int) pcapng.Statistics {
	var s pcapng.Statistics
	for _, l := range c.lanes {
		for k, n := range l.ifaces {
			if k == i || c.format.single {
				s.Received += n.looked
				s.Accepted += n.accepted + n.dropped
				s.Dropped += n.dropped
				s.Delivered += n.accepted
			}
		}
	}
	for k, lost := range c.lostSince() {
		if k == i || c.format.single {
			s.Lost += lost
		}
	}
	s.Received += s.Lost
	return s
}
