package transceiver

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sfp() []byte {
	b := make([]byte, 512)
	b[0], b[92] = 3, 0x68
	copy(b[20:], "FINISAR CORP.   ")
	copy(b[40:], "FTLX8571D3BCL   ")
	copy(b[68:], "ABC1234         ")
	copy(b[256+96:], []byte{0x1f, 0x80})  // 31.5 degrees
	copy(b[256+102:], []byte{0x17, 0x70}) // 600 uW
	copy(b[256+104:], []byte{0x00, 0x00})
	return b
}

func TestParse(t *testing.T) {
	qsfp := make([]byte, 256)
	qsfp[0] = 0x11
	copy(qsfp[148:], "Mellanox        ")
	copy(qsfp[168:], "MCP1600-C001    ")
	copy(qsfp[196:], "MT0001\x00\xff         ")
	qsfp[22], qsfp[34], qsfp[50] = 0xff, 0x27, 0x27
	tests := map[string]struct {
		memory []byte
		want   *Module
	}{
		"SFP":          {sfp(), &Module{"SFP", "FINISAR CORP.", "FTLX8571D3BCL", "ABC1234", true, 31.5, -40, -2.22}},
		"SFP, 256":     {sfp()[:256], &Module{Type: "SFP", Vendor: "FINISAR CORP.", Part: "FTLX8571D3BCL", Serial: "ABC1234"}},
		"QSFP28":       {qsfp, &Module{"QSFP28", "Mellanox", "MCP1600-C001", "MT0001", true, -1, -0.01, -0.01}},
		"cut":          {[]byte{3, 0}, &Module{Type: "SFP"}},
		"unknown":      {make([]byte, 512), nil},
		"nothing":      {nil, nil},
		"QSFP, busy":   {[]byte{0x0d, 0, 1}, &Module{Type: "QSFP+"}},
		"CMIS, vendor": {append([]byte{0x18}, make([]byte, 255)...), &Module{Type: "QSFP-DD"}},
	}
	for name, test := range tests {
		if d := cmp.Diff(test.want, Parse(test.memory)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sfp())
	f.Add([]byte{0x11})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m := Parse(b); m != nil && (m.Type == "" || len(m.Vendor) > 16) {
			t.Errorf("%+v", m)
		}
	})
}
