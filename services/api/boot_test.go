package api

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestAskInit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "init")
	var e *Error
	if _, err := AskInit(t.Context(), path, "reboot"); !errors.As(err, &e) || e.Kind != NotSupported {
		t.Errorf("without init: %v", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			switch line, _ := bufio.NewReader(c).ReadString('\n'); line {
			case "log engine\n":
				fmt.Fprint(c, "ok\nfirst\nsecond\n")
			case "reboot\n":
				fmt.Fprint(c, "ok\n")
			default:
				fmt.Fprint(c, "error there is no such command\n")
			}
			c.Close()
		}
	}()
	if text, err := AskInit(t.Context(), path, "log engine"); text != "first\nsecond\n" || err != nil {
		t.Errorf("log: %q, %v", text, err)
	}
	if text, err := AskInit(t.Context(), path, "reboot"); text != "" || err != nil {
		t.Errorf("reboot: %q, %v", text, err)
	}
	if _, err := AskInit(t.Context(), path, "dance"); !errors.As(err, &e) || !strings.Contains(e.Text, "no such command") {
		t.Errorf("dance: %v", err)
	}
}
