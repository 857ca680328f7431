package boot

import (
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// welcome shows the console's first page when something on it is new: name, addresses, fingerprint of the certificate, state.
func (m *machine) welcome() {
	page := m.page()
	if page == m.shown {
		return
	}
	m.shown = page
	m.say("%s", page)
}

func (m *machine) page() string {
	var b strings.Builder
	name, _ := os.Hostname()
	fmt.Fprintf(&b, "\n  Galvo %s   %s\n", m.options.Version, name)
	addresses := pageAddresses()
	for _, a := range addresses {
		fmt.Fprintf(&b, "  https://%s\n", a)
	}
	if len(addresses) == 0 {
		b.WriteString("  no address yet\n")
	}
	if print := fingerprint(filepath.Join(m.state, "web", "certificate.pem")); print != "" {
		fmt.Fprintf(&b, "  certificate SHA-256 %s\n", print)
	}
	problems := m.report.list()
	if len(problems) == 0 {
		b.WriteString("  state ok\n")
	} else {
		b.WriteString("  state degraded\n")
	}
	for _, p := range problems {
		fmt.Fprintf(&b, "    %s\n", p)
	}
	return b.String()
}

// pageAddresses returns the machine's own that a browser takes, IPv4 first.
func pageAddresses() (out []string) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var six []string
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		switch {
		case !ok || n.IP.IsLoopback():
		case n.IP.To4() != nil:
			out = append(out, n.IP.String())
		case !n.IP.IsLinkLocalUnicast():
			six = append(six, "["+n.IP.String()+"]")
		}
	}
	return append(out, six...)
}

// fingerprint returns the digest of the certificate in a PEM file as browsers show it, or nothing.
func fingerprint(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			sum := sha256.Sum256(block.Bytes)
			return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
		}
	}
	return ""
}
