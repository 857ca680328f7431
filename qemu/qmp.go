package qemu

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

// qmp is the connection to QEMU's control socket: JSON objects, one a line (qemu-qmp-ref(7)).
type qmp struct {
	conn net.Conn
	in   *json.Decoder
}

// Control gives QEMU a command and returns its answer.
func (v *VM) Control(command string, arguments map[string]any) json.RawMessage {
	v.t.Helper()
	answer, err := v.control(command, arguments)
	if err != nil {
		v.t.Fatalf("QMP %s: %v", command, err)
	}
	return answer
}

func (v *VM) control(command string, arguments map[string]any) (json.RawMessage, error) {
	if v.qmp == nil {
		c, err := net.Dial("unix", filepath.Join(v.dir, "qmp"))
		if err != nil {
			return nil, err
		}
		v.qmp = &qmp{c, json.NewDecoder(c)}
		if _, err := v.qmp.call("qmp_capabilities", nil); err != nil {
			return nil, err
		}
	}
	return v.qmp.call(command, arguments)
}

func (q *qmp) call(command string, arguments map[string]any) (json.RawMessage, error) {
	q.conn.SetDeadline(time.Now().Add(time.Minute))
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return nil, err
	}
	for {
		var m struct {
			Return json.RawMessage `json:"return"`
			Error  *struct{ Desc string }
		}
		// The greeting and events come in between.
		if err := q.in.Decode(&m); err != nil {
			return nil, err
		}
		switch {
		case m.Error != nil:
			return nil, fmt.Errorf("%s", m.Error.Desc)
		case m.Return != nil:
			return m.Return, nil
		}
	}
}

// PressPower presses the power button.
func (v *VM) PressPower() { v.t.Helper(); v.Control("system_powerdown", nil) }

// PullDisk pulls the i-th disk out, which must be Removable.
func (v *VM) PullDisk(i int) {
	v.t.Helper()
	v.Control("device_del", map[string]any{"id": fmt.Sprintf("dev-d%d", i)})
}

// Plug plugs the cable of the i-th capture port in, or out.
func (v *VM) Plug(i int, in bool) {
	v.t.Helper()
	v.Control("set_link", map[string]any{"name": fmt.Sprintf("nic-c%d", i+1), "up": in})
}
