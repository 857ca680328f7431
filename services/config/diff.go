package config

import "galvo/services/api"

// Diff returns what changes from before to after, in the order of the file. The text of a field that one of them does not have is empty.
func Diff(before, after *Config) []api.ConfigChange {
	changes := []api.ConfigChange{}
	texts := map[string]string{}
	for _, f := range before.fields() {
		texts[f.path] = f.shown()
	}
	seen := map[string]bool{}
	for _, f := range after.fields() {
		seen[f.path] = true
		if was, now := texts[f.path], f.shown(); was != now {
			changes = append(changes, api.ConfigChange{Field: f.path, Old: was, New: now, Takes: f.takes()})
		}
	}
	for _, f := range before.fields() {
		if was := f.shown(); !seen[f.path] && was != "" {
			changes = append(changes, api.ConfigChange{Field: f.path, Old: was, Takes: f.takes()})
		}
	}
	return changes
}

// shown returns the field's text, or nothing for an optional field that is not set.
func (f field) shown() string {
	if f.optional() && f.value.IsZero() {
		return ""
	}
	return text(f.value)
}
