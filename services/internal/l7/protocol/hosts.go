package protocol

import (
	"fmt"
	"strings"
	"sync"

	"galvo/services/internal/l7/hostname"
)

// Hosts says which application a server belongs to, by its name.
type Hosts = hostname.Table

// MaxHost is the longest host name that is kept.
const MaxHost = hostname.Max

// BuiltinHosts returns the table that the program carries.
func BuiltinHosts() *Hosts { return builtinHosts() }

var builtinHosts = sync.OnceValue(func() *Hosts {
	h, err := hostname.New(applicationNamed)
	if err != nil {
		panic("protocol: " + err.Error())
	}
	return h
})

// ReadHosts returns the program's table with the entries of text before it: a user's own names of servers, for applications that the table of names has. The
// error says which line is wrong, and why.
func ReadHosts(text string) (*Hosts, error) { return builtinHosts().With(text, applicationNamed) }

func applicationNamed(name string) (uint16, error) {
	id, ok := Lookup(name)
	if !ok {
		err := fmt.Errorf("no application or protocol %q", name)
		if near := Nearest(name, 3); len(near) > 0 {
			err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, ", "))
		}
		return 0, err
	}
	return uint16(id), nil
}

// hostProtocols returns the rows that the names of servers add to the table of names.
var hostProtocols = sync.OnceValue(func() (rows []Protocol) {
	for _, a := range hostname.Apps() {
		if a.Number < firstSignatureID {
			panic(fmt.Sprintf("protocol: hosts.txt: number %d of %s", a.Number, a.Name))
		}
		rows = append(rows, Protocol{ID: ID(a.Number), Name: a.Name, Category: a.Category, Layer: LayerApplication})
	}
	return rows
})
