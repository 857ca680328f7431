package api

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestOpenAPIDescribesEveryOperation(t *testing.T) {
	b, err := OpenAPI("test")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	for _, r := range Routes() {
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

func TestRoles(t *testing.T) {
	if !RoleAdmin.Includes(RoleViewer) || RoleViewer.Includes(RoleCapture) || Role("root").Includes(RoleViewer) {
		t.Error("roles do not include one another as they should")
	}
}
