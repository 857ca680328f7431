package main

import (
	"strings"
	"testing"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// TestReportLinks: of each link type that is not decoded there is one line, of the others none.
func TestReportLinks(t *testing.T) {
	var b strings.Builder
	const bluetooth = 187
	reportLinks(&b, []pipeline.Interface{{Link: packet.LinkEthernet}, {Link: bluetooth}, {Link: packet.LinkRadiotap}, {Link: bluetooth}, {Link: packet.LinkRaw}})
	if got := b.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "link type 187 ") {
		t.Errorf("it says %q", got)
	}
}
