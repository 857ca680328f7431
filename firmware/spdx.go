package firmware

import (
	"encoding/json"
	"fmt"
	"strings"
)

// spdx returns the list of what is in the image (SPDX 2.3): our own part with the Go modules and npm packages that are in it, and what comes from Debian. It has no time, so that it does not change by itself.
func (r *Result) spdx() ([]byte, error) {
	type external struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	type sum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	type pkg struct {
		ID        string     `json:"SPDXID"`
		Name      string     `json:"name"`
		Version   string     `json:"versionInfo"`
		Location  string     `json:"downloadLocation"`
		Homepage  string     `json:"homepage,omitempty"`
		Source    string     `json:"sourceInfo,omitempty"`
		Concluded string     `json:"licenseConcluded"`
		Declared  string     `json:"licenseDeclared"`
		Copyright string     `json:"copyrightText"`
		Analyzed  bool       `json:"filesAnalyzed"`
		Sums      []sum      `json:"checksums,omitempty"`
		External  []external `json:"externalRefs,omitempty"`
	}
	type relation struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
	const document, own, none = "SPDXRef-DOCUMENT", "SPDXRef-galvo", "NOASSERTION"
	packages := []pkg{{ID: own, Name: "galvo", Version: r.Version, Location: none, Concluded: "Apache-2.0", Declared: "Apache-2.0", Copyright: none}}
	relations := []relation{{document, "DESCRIBES", own}}
	for i, p := range r.Packages {
		id := fmt.Sprintf("SPDXRef-debian-%d", i+1)
		packages = append(packages, pkg{ID: id, Name: p.Name, Version: p.Version, Location: none, Homepage: p.Homepage, Source: "built from the Debian source package " + p.Source,
			Concluded: none, Declared: p.License, Copyright: none, Sums: []sum{{"SHA256", p.SHA256}},
			External: []external{{"PACKAGE-MANAGER", "purl", "pkg:deb/debian/" + p.Name + "@" + strings.ReplaceAll(p.Version, "+", "%2B") + "?arch=" + p.Architecture}}})
		relations = append(relations, relation{own, "CONTAINS", id})
	}
	for i, m := range r.GoModules {
		id := fmt.Sprintf("SPDXRef-go-%d", i+1)
		packages = append(packages, pkg{ID: id, Name: m.path, Version: m.version, Location: none, Concluded: none, Declared: m.licence, Copyright: none,
			External: []external{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + m.path + "@" + m.version}}})
		relations = append(relations, relation{own, "CONTAINS", id})
	}
	for i, p := range r.NPM {
		id := fmt.Sprintf("SPDXRef-npm-%d", i+1)
		packages = append(packages, pkg{ID: id, Name: p.Name, Version: p.Version, Location: none, Concluded: none, Declared: p.Licence, Copyright: none,
			External: []external{{"PACKAGE-MANAGER", "purl", "pkg:npm/" + strings.Replace(p.Name, "@", "%40", 1) + "@" + p.Version}}})
		relations = append(relations, relation{own, "CONTAINS", id})
	}
	text, err := json.MarshalIndent(struct {
		Version   string     `json:"spdxVersion"`
		License   string     `json:"dataLicense"`
		ID        string     `json:"SPDXID"`
		Name      string     `json:"name"`
		Namespace string     `json:"documentNamespace"`
		Creation  any        `json:"creationInfo"`
		Packages  []pkg      `json:"packages"`
		Relations []relation `json:"relationships"`
	}{"SPDX-2.3", "CC0-1.0", document, "galvo-" + r.Board.Name + "-" + r.Version, "urn:galvo:" + r.Board.Name + ":" + r.Build,
		map[string]any{"created": "1970-01-01T00:00:00Z", "creators": []string{"Tool: galvo-mkimage"}}, packages, relations}, "", "  ")
	return append(text, '\n'), err
}
