package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestOpenAPIDescribesEveryOperation(t *testing.T) {
	b, err := OpenAPI("test")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Info struct {
			Description string `json:"description"`
		} `json:"info"`
		Paths      map[string]map[string]any `json:"paths"`
		Security   []map[string][]string     `json:"security"`
		Components struct {
			SecuritySchemes map[string]struct{ Type, Scheme string } `json:"securitySchemes"`
		} `json:"components"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(doc.Info.Description, "microseconds since the epoch") {
		t.Errorf("the units are not said: %q", doc.Info.Description)
	}
	if s := doc.Components.SecuritySchemes; len(doc.Security) != 2 || len(s) != 2 || s["basic"].Scheme != "basic" || s["token"].Scheme != "bearer" || s["token"].Type != "http" {
		t.Errorf("how to log in is not said: %v, %v", doc.Security, s)
	}
	for _, r := range Routes() {
		if o, ok := doc.Paths[strings.ReplaceAll(r.Path, "...}", "}")][strings.ToLower(r.Method)].(map[string]any); ok && r.Role == RoleNone && fmt.Sprint(o["security"]) != "[map[]]" {
			t.Errorf("%s %s needs no login, and the description has %v", r.Method, r.Path, o["security"])
		}
		if doc.Paths[strings.ReplaceAll(r.Path, "...}", "}")][strings.ToLower(r.Method)] == nil {
			t.Errorf("%s %s is not in the description", r.Method, r.Path)
		}
	}
}

func TestEveryKindHasAStatus(t *testing.T) {
	for kind, status := range statuses {
		if status < 400 || (&Error{Kind: kind}).GetStatus() != status {
			t.Errorf("kind %s has status %d", kind, status)
		}
	}
	if got := (&Error{Kind: "nonsense"}).GetStatus(); got != 500 {
		t.Errorf("an unknown kind has status %d, want 500", got)
	}
}

// What a full disk refuses is said as that, wherever it came up.
func TestFullDisk(t *testing.T) {
	err := fmt.Errorf("write users: %w", &os.PathError{Op: "write", Path: "users", Err: syscall.ENOSPC})
	if e := ErrorOf(err); e.GetStatus() != 507 || !strings.Contains(e.Text, "make room") {
		t.Errorf("%d %s", e.GetStatus(), e.Text)
	}
}

func TestRoles(t *testing.T) {
	if !RoleAdmin.Includes(RoleViewer) || RoleViewer.Includes(RoleCapture) || Role("root").Includes(RoleViewer) {
		t.Error("roles do not include one another as they should")
	}
}

// What is wrong with a request is said in the same form as everything else, by name and without Go's spelling of values.
func TestWrongRequests(t *testing.T) {
	mux := http.NewServeMux()
	StartCapture.Handle(New(mux, "test"), func(context.Context, *CaptureInput) (*Created[CaptureCreated], error) {
		return &Created[CaptureCreated]{Status: http.StatusCreated}, nil
	})
	for _, c := range []struct {
		body, content string
		status        int
		want          string
	}{
		{`{"expression":"ip == 10.0.0.1"}`, "application/json", 201, `"id"`},
		{`{"expression":"ip == 10.0.0.1"}`, "", 201, `"id"`},
		{`{"expression":"ip == 10.0.0.1"}`, "application/x-www-form-urlencoded", 201, `"id"`},
		{`{"foo":1}`, "application/json", 400, `"foo: there is no such field"`},
		{`{"expression":5}`, "application/json", 400, `"expression: must be a text in quotes, not 5"`},
		{`{"sink":{"type":"ftp"}}`, "application/json", 400, `"sink.type: must be one of http, discard, disk, interface, erspan, sftp, not \"ftp\""`},
		{`{"sink":{"type":5,"x":1},"startTime":"1"}`, "application/json", 400, `"sink.type: must be a text in quotes, not 5; sink.x: there is no such field; startTime: must be a whole number, not \"1\""`},
		{`{"sink":[]}`, "application/json", 400, `"sink: must be an object in { }"`},
		{`[]`, "application/json", 400, `"the body: must be an object in { }"`},
		{`{"snapLength":70000}`, "application/json", 400, `"snapLength: must be at most 65535, not 70000"`},
		{`{"startTime":-1}`, "application/json", 400, "startTime: must be at least 0"},
		{`{"endTime":9223372036854775807}`, "application/json", 400, `endTime: must be at most 4611686018427387"`},
		{`{"maxSeconds":18446744073709551615}`, "application/json", 400, `maxSeconds: must be at most 1000000000"`},
		{`{"startTime":1e400}`, "application/json", 400, "the body: 1e400 is too large, or not written with digits alone"},
		{`{"startTime":1e15}`, "application/json", 400, `"startTime: 1e15 is too large, or not written with digits alone`},
		{`{"startTime":0.5}`, "application/json", 400, "startTime: must be a whole number, not 0.5"},
		{`{"expression":`, "application/json", 400, "unexpected end of JSON input"},
		{``, "application/json", 400, "body is required"},
		{`{"expression":"port == 1","expression":"port == 2"}`, "application/json", 400, `"the body: the field expression is given twice"`},
		{`{"expression":"port == 1","Expression":"port == 2"}`, "application/json", 400, `"the body: the field Expression is given twice"`},
		{`{"sink":{"type":"http","type":"disk"}}`, "application/json", 400, `"the body: the field type is given twice"`},
		{`{"sink":{"type":"http"},"format":"pcap"}`, "application/json", 201, `"id"`},
		{`<a>`, "text/xml", 400, "unknown content type"},
		{strings.Repeat(" ", 1<<20+1), "application/json", 413, `"too_large"`},
	} {
		r := httptest.NewRequest("POST", StartCapture.Path, strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.content)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		text := w.Body.String()
		if w.Code != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%.40s: %d %s, want %d %s", c.body, w.Code, text, c.status, c.want)
		}
		if c.status >= 400 && (!strings.Contains(text, `"expected":[]`) || strings.Contains(text, "map[")) {
			t.Errorf("%.40s: the error is %s", c.body, text)
		}
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", StartCapture.Path+"?x=1", strings.NewReader(`{"expression":""}`)))
	if text := w.Body.String(); w.Code != 400 || !strings.Contains(text, `"x: unknown query parameter"`) {
		t.Errorf("an unknown parameter: %d %s", w.Code, text)
	}
	w = httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", StartCapture.Path+"?mm-id=:1&mm-id=:2", strings.NewReader(`{"expression":""}`)))
	if text := w.Body.String(); w.Code != 400 || !strings.Contains(text, `"the parameter mm-id is given twice"`) || !strings.Contains(text, `"expected":[]`) {
		t.Errorf("a parameter given twice: %d %s", w.Code, text)
	}
}

func TestErrorsStayReadable(t *testing.T) {
	w := httptest.NewRecorder()
	WriteError(w, &Error{Kind: BadExpression, Text: "& is not an operator; write && or and"})
	if text := w.Body.String(); !strings.Contains(text, `"& is not an operator; write && or and"`) || w.Code != 400 {
		t.Errorf("%d %s", w.Code, text)
	}
}
