package rings

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"galvo/services/api"
	"galvo/services/internal/filter"
	"galvo/services/internal/ring/rule"
)

// ruleExpressions say in the filter language what a rule of a type is for, by type; %s is its value, quoted.
var ruleExpressions = map[string]string{
	"mac":       "mac == %s",
	"ip":        "ip == %s",
	"port":      "portrange == %s",
	"l7":        "l7Protocol == %s",
	"vlan":      "outervlan == %s",
	"interface": "interface == %s",
	"group":     "group == %s",
}

// ruleActions are what rules do, by name.
var ruleActions = map[string]rule.Action{
	"full": rule.Keep, "snap": rule.Snap, "l2": rule.SnapLink, "l3": rule.SnapNetwork, "l4": rule.SnapHeaders, "discard": rule.Discard,
}

// compile makes what the API says into what a ring understands. calls has, by rule, which calls a rule for a SIP number is for. The error is an *api.Error that
// names the first rule that is wrong; those before it are returned, so that whatever it and the ones after it are for is kept.
func compile(list []api.RingRule, env *filter.Env, calls []*rule.Calls) (rules []rule.Rule, err error) {
	for i := range list {
		one, wrong := compileOne(&list[i], env)
		if wrong != nil {
			wrong.Text = fmt.Sprintf("rule %d: %s", i+1, wrong.Text)
			return rules, wrong
		}
		if i < len(calls) {
			one.Calls = calls[i]
		}
		rules = append(rules, one)
	}
	return rules, nil
}

func compileOne(r *api.RingRule, env *filter.Env) (rule.Rule, *api.Error) {
	expression, form := r.Value, ruleExpressions[r.Type]
	switch {
	case form != "":
		expression = fmt.Sprintf(form, filter.Quote(r.Value))
	case r.Type == "all" && r.Value != "":
		return rule.Rule{}, api.Errorf(api.BadRequest, "a rule for all packets takes no value")
	case r.Type == "sip":
		expression = sipExpression(r.Value)
	}
	if r.Value == "" && r.Type != "all" {
		return rule.Rule{}, api.Errorf(api.BadRequest, "the value is missing")
	}
	f, err := filter.Compile(expression, env)
	if err != nil {
		wrong := api.ErrorOf(err)
		if form != "" { // of the value, which somebody wrote, and not of what it was put into
			begin := strings.Index(form, "%s") + len(`"`)
			end := min(max(0, wrong.Pos+wrong.Len-begin), len(r.Value))
			wrong.Pos = min(max(0, wrong.Pos-begin), len(r.Value))
			wrong.Len = end - wrong.Pos
		}
		return rule.Rule{}, wrong
	}
	switch snap := r.Action == "snap"; {
	case snap && r.SnapLength == 0:
		return rule.Rule{}, api.Errorf(api.BadRequest, "the action snap needs a snapLength, 1 to 65535 bytes")
	case !snap && r.SnapLength != 0:
		return rule.Rule{}, api.Errorf(api.BadRequest, "snapLength goes with the action snap, not with %s", r.Action)
	}
	return rule.Rule{Filter: f, Negate: r.Negate, Action: ruleActions[r.Action], Bytes: r.SnapLength}, nil
}

// callsOf makes room for the calls of the rules for SIP numbers, by rule.
func callsOf(list []api.RingRule) []*rule.Calls {
	calls := make([]*rule.Calls, len(list))
	for i, r := range list {
		if r.Type == "sip" {
			calls[i] = new(rule.Calls)
		}
	}
	return calls
}

// sipExpression finds the messages of SIP with a number or a user in From, To or the request's address (RFC 3261 section 19.1, RFC 3966). By one of these the
// ring learns which calls the number has.
func sipExpression(number string) string {
	return `l7Protocol == SIP and regexp == ` + filter.Quote(`(?i)(?:sips?|tel):(?-i)`+regexp.QuoteMeta(number)+`[@;>:]`)
}

// SetRules gives a ring other rules. What comes from the next batch on is recorded by them.
func (rs *Set) SetRules(name string, rules []api.RingRule) (api.Ring, error) {
	r, err := rs.setRules(name, rules)
	if err != nil {
		return api.Ring{}, err
	}
	return rs.view(r), nil
}

func (rs *Set) setRules(name string, rules []api.RingRule) (*Recorder, error) {
	rs.changing.Lock()
	defer rs.changing.Unlock()
	r, err := rs.named(name)
	if err != nil {
		return nil, err
	}
	if _, err := compile(rules, rs.EnvNow(), nil); err != nil {
		return nil, err
	}
	rs.mu.Lock()
	before, calls := r.Rules, r.calls
	r.Rules, r.calls = rules, callsOf(rules)
	if err = rs.save(); err != nil {
		r.Rules, r.calls = before, calls
	}
	rs.mu.Unlock()
	if err != nil {
		return nil, err
	}
	rs.renewRules(r)
	return r, nil
}

// Renew has the rules of the rings follow what expressions depend on: groups and ports.
func (rs *Set) Renew() {
	rs.changing.Lock()
	defer rs.changing.Unlock()
	for _, r := range rs.all() {
		if len(r.Rules) > 0 && !rs.closed {
			rs.renewRules(r)
		}
	}
}

// renewRules compiles the rules of a ring again. Where one of them has become wrong the ring keeps those that it has. rs.changing is held.
func (rs *Set) renewRules(r *Recorder) {
	if r.ring == nil {
		return
	}
	rules, wrong := compile(r.Rules, rs.Env(), r.calls)
	if wrong != nil && !r.inFull {
		slog.Warn("ring", "name", r.Name, "error", wrong)
		rs.set(r, stateRecording, "its rules are those of before: "+wrong.Error())
		return
	}
	if err := r.ring.SetRules(rules); err != nil {
		wrong = err
	}
	r.inFull = wrong != nil
	rs.set(r, stateRecording, inFull(wrong))
}

// inFull says what a ring does whose rules are those before a wrong one; nothing if there is none.
func inFull(wrong error) string {
	if wrong == nil {
		return ""
	}
	return wrong.Error() + ": what it and the rules after it are for is kept in full"
}
