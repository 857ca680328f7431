package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/danielgtaylor/huma/v2/validation"
)

// A Role is what a user or a token may do. Each role may do what the ones before it may.
type Role string

// The roles.
const (
	RoleNone    Role = ""        // of a route that needs no login
	RoleViewer  Role = "viewer"  // statistics, and the lists of captures
	RoleCapture Role = "capture" // start and stop captures, download packets
	RoleAdmin   Role = "admin"   // everything
)

var roles = []Role{RoleViewer, RoleCapture, RoleAdmin}

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return slices.Contains(roles, r) }

// Includes reports whether r may do what needs the role other.
func (r Role) Includes(other Role) bool {
	return r.Valid() && slices.Index(roles, r) >= slices.Index(roles, other)
}

// A Service is the process that answers an operation.
type Service string

// The services.
const (
	ServiceEngine Service = "engine"
	ServiceHost   Service = "host"
	ServiceWeb    Service = "web"
)

// A Route is one row of the route table: what web checks, and where it forwards to.
type Route struct {
	Method  string
	Path    string // with {wildcards} as in net/http
	Summary string
	Service Service
	Role    Role
	Upload  bool     // the body may have any size: who answers bounds it
	Stream  bool     // GET begins something, or does not end: there is no HEAD
	Query   []string // parameters that a plain handler takes, as "name: what it is"

	describe func(huma.API)
}

// An Operation is a route with the types of its input and output. These are structs as huma wants them: path, query and header
// parameters by tags, and a Body.
type Operation[I, O any] struct {
	Route
	huma huma.Operation
}

func operation[I, O any](service Service, role Role, method, path, summary string) Operation[I, O] {
	o := Operation[I, O]{Route: Route{Method: method, Path: path, Summary: summary, Service: service, Role: role}}
	o.huma = huma.Operation{
		OperationID: operationID(method, path),
		Method:      method,
		Path:        path,
		Summary:     summary,
		Description: description(role),
		Tags:        []string{string(service)},
		// The only text format besides JSON is TOML, which the configuration uses.
		MaxBodyBytes: 1 << 20,
	}
	if role == RoleNone {
		o.huma.Security = []map[string][]string{{}}
	}
	o.describe = func(a huma.API) { o.Handle(a, nil) }
	return o
}

func description(role Role) string {
	if role == RoleNone {
		return "Needs no login."
	}
	return "Needs the role " + string(role) + "."
}

func operationID(method, path string) string {
	path = strings.TrimPrefix(path, "/api/v1")
	return strings.ToLower(method) + strings.NewReplacer("/", "-", "{", "", "}", "", "...", "").Replace(path)
}

// Handle makes handler answer the operation on a. An error that handler returns is sent as ErrorOf says.
func (o Operation[I, O]) Handle(a huma.API, handler func(context.Context, *I) (*O, error)) {
	huma.Register(a, o.huma, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, ErrorOf(err).listed()
		}
		return out, nil
	})
}

// New returns an API on mux that answers in this package's errors and serves no page of its own.
func New(mux *http.ServeMux, version string) huma.API {
	useOurErrors()
	c := huma.DefaultConfig("Galvo", version)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil
	format := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: unmarshal}
	// The last one is what curl -d says that a body is, if nobody tells it.
	c.Formats = map[string]huma.Format{"application/json": format, "json": format, "application/x-www-form-urlencoded": format}
	c.RejectUnknownQueryParameters = true
	c.Info.Description = about
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"basic": {Type: "http", Scheme: "basic", Description: "User and password."},
		"token": {Type: "http", Scheme: "bearer", Description: "A token's secret, as POST /api/v1/tokens answers it."},
	}
	c.Security = []map[string][]string{{"basic": {}}, {"token": {}}}
	a := humago.New(mux, c)
	a.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		u := ctx.URL()
		for name, values := range u.Query() {
			if len(values) > 1 {
				huma.WriteErr(a, ctx, http.StatusBadRequest, fmt.Sprintf("the parameter %s is given twice", name))
				return
			}
		}
		next(ctx)
	})
	return a
}

// about is what the description says of all operations.
const about = "Times are microseconds since the epoch, sizes are bytes, bit rates are bit/s, unless a field says otherwise. " +
	"1 MB is 10^6 bytes. An error has the body {error, kind, pos, len, expected}: pos and len are 0-based bytes of the expression or text that it is about."

// unmarshal reads JSON as encoding/json does, but for a field that is given twice, which is an error: a reader of the request may take the one, and Galvo the
// other. Names differ in case only if they are those of different fields, which there are none of.
func unmarshal(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if name, found := twice(d); found {
		return fmt.Errorf("the field %s is given twice", name)
	}
	return nil
}

// twice returns the first name that an object of a JSON text has twice. The text is valid.
func twice(d *json.Decoder) (name string, found bool) {
	var objects []map[string]bool // that the decoder is inside of, nil for lists
	isName := false               // of the next token, in an object
	for {
		t, err := d.Token()
		if err != nil {
			return "", false
		}
		in := len(objects) > 0 && objects[len(objects)-1] != nil
		switch t {
		case json.Delim('{'):
			objects, isName = append(objects, map[string]bool{}), true
			continue
		case json.Delim('['):
			objects = append(objects, nil)
			continue
		case json.Delim('}'), json.Delim(']'):
			objects = objects[:len(objects)-1]
			isName = true // if what is around it is an object
			continue
		}
		if in && isName {
			names, key := objects[len(objects)-1], strings.ToLower(t.(string))
			if names[key] {
				return t.(string), true
			}
			names[key], isName = true, false
			continue
		}
		isName = true
	}
}

// useOurErrors makes huma report what it finds wrong with a request as an Error, in words for who wrote the request. huma offers only package variables for that.
var useOurErrors = sync.OnceFunc(func() {
	for message, ours := range map[*string]string{
		&validation.MsgUnexpectedProperty:       "there is no such field",
		&validation.MsgExpectedRequiredProperty: "the field %s is missing",
		&validation.MsgExpectedBoolean:          "must be true or false",
		&validation.MsgExpectedNumber:           "must be a number",
		&validation.MsgExpectedInteger:          "must be a whole number",
		&validation.MsgExpectedString:           "must be a text in quotes",
		&validation.MsgExpectedArray:            "must be a list in [ ]",
		&validation.MsgExpectedObject:           "must be an object in { }",
		&validation.MsgExpectedOneOf:            "must be one of %s",
		&validation.MsgExpectedMinimumNumber:    "must be at least %v",
		&validation.MsgExpectedMaximumNumber:    "must be at most %v",
		&validation.MsgExpectedMinLength:        "must have at least %d characters",
		&validation.MsgExpectedMaxLength:        "must have at most %d characters",
		&validation.MsgExpectedMinItems:         "must have at least %d entries",
		&validation.MsgExpectedMaxItems:         "must have at most %d entries",
		&validation.MsgExpectedBePattern:        "must be %s",
	} {
		*message = ours
	}
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		e := &Error{Text: message, Kind: kindOf(status), Expected: []string{}}
		var wrong []string
		for _, err := range errs {
			if err != nil {
				wrong = append(wrong, detail(err))
			}
		}
		switch details := strings.Join(wrong, "; "); {
		case message == "validation failed" && details != "": // which the details say by themselves
			e.Text = details
		case details != "":
			e.Text += ": " + details
		}
		return e
	}
})

var (
	// goNumber is how encoding/json says that a number does not fit: it names Go's types.
	goNumber = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^json: cannot unmarshal number (\S+) into Go (?:struct field \w+(\.\S+)|value) of type \S+$`)
	})
	// exponent is a whole number as Go prints a large float64.
	exponent = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\d(\.\d+)?e\+\d+`) })
)

// digits writes a whole number as a person does.
func digits(number string) string {
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.Abs(f) >= 1e21 {
		return number
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// detail says what is wrong with which part of a request.
func detail(err error) string {
	d, ok := err.(*huma.ErrorDetail)
	if !ok {
		return err.Error()
	}
	if m := goNumber().FindStringSubmatch(d.Message); m != nil {
		return fmt.Sprintf("%s: %s is too large, or not written with digits alone", part("body"+m[2]), m[1])
	}
	d.Message = exponent().ReplaceAllStringFunc(d.Message, digits)
	switch v := d.Value.(type) {
	case float64:
		if math.Abs(v) <= 1<<53 { // beyond, it is not what was sent
			return fmt.Sprintf("%s: %s, not %s", part(d.Location), d.Message, strconv.FormatFloat(v, 'f', -1, 64))
		}
	case string, bool, json.Number:
		if text, err := json.Marshal(v); err == nil && v != "" && len(text) <= 80 && d.Location != "body" {
			return fmt.Sprintf("%s: %s, not %s", part(d.Location), d.Message, text)
		}
	}
	return strings.TrimPrefix(part(d.Location)+": "+d.Message, ": ")
}

// part names the part of a request at one of huma's locations as who wrote it does: the body's field body.rules[0].type is rules[0].type.
func part(location string) string {
	where, name, ok := strings.Cut(location, ".")
	switch {
	case ok:
		return name
	case where == "body":
		return "the body"
	}
	return where
}

// OpenAPI returns the description of every operation, as JSON.
func OpenAPI(version string) ([]byte, error) {
	a := New(http.NewServeMux(), version)
	for _, r := range Routes() {
		if r.describe != nil {
			r.describe(a)
			continue
		}
		a.OpenAPI().AddOperation(plain(r))
	}
	return a.OpenAPI().MarshalJSON()
}

// plain describes an operation whose handler is plain.
func plain(r Route) *huma.Operation {
	text := &huma.Schema{Type: huma.TypeString}
	o := &huma.Operation{
		OperationID: operationID(r.Method, r.Path), Method: r.Method, Path: strings.ReplaceAll(r.Path, "...}", "}"),
		Summary: r.Summary, Description: description(r.Role), Tags: []string{string(r.Service)},
		Responses: map[string]*huma.Response{"default": {Description: "See the manual of the operation; an error has the body that all operations have."}},
	}
	for part := range strings.SplitSeq(o.Path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			o.Parameters = append(o.Parameters, &huma.Param{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: text})
		}
	}
	for _, q := range r.Query {
		name, about, _ := strings.Cut(q, ": ")
		o.Parameters = append(o.Parameters, &huma.Param{Name: name, In: "query", Description: about, Schema: text})
	}
	if r.Upload {
		o.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}
	}
	return o
}
