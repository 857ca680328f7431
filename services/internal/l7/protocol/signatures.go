package protocol

import (
	"strings"
	"sync"

	"galvo/services/internal/l7/signature"
)

// Signatures returns the table that the program carries.
func Signatures() *signature.Table { return signatures() }

// A test compiles the table, so it has no error.
var signatures = sync.OnceValue(func() *signature.Table {
	known := make(map[string]uint16)
	for _, p := range builtin[1:] {
		known[p.Name] = uint16(p.ID)
	}
	for _, p := range hostProtocols() {
		known[p.Name] = uint16(p.ID)
	}
	t, err := signature.New(known, firstSignatureID)
	if err != nil {
		panic("protocol: embedded signatures: " + err.Error())
	}
	return t
})

// signatureProtocols returns the rows that the signatures add to the table of names.
func signatureProtocols() (rows []Protocol) {
	for _, p := range Signatures().Protocols {
		if p.New {
			rows = append(rows, Protocol{ID(p.ID), p.Name, p.Category, layerOf(p.Types), ID(p.Master), p.Aliases, p.Ports})
		}
	}
	return rows
}

// layerOf returns where a protocol of these types is at home.
func layerOf(types []string) Layer {
	for _, text := range types {
		switch kind, _, _ := strings.Cut(text, ":"); kind {
		case "ip":
			return LayerNetwork
		case "sctp":
		default:
			return LayerLink
		}
	}
	return LayerApplication
}
