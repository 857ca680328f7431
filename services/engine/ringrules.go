package engine

import (
	"fmt"
	"regexp"
	"strings"

	"galvo/services/api"
	"galvo/services/internal/filter"
	"galvo/services/internal/ring"
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
var ruleActions = map[string]ring.Action{
	"full": ring.Keep, "snap": ring.Snap, "l2": ring.SnapLink, "l3": ring.SnapNetwork, "l4": ring.SnapHeaders, "discard": ring.Discard,
}

// ringRules makes what the API says into what a ring understands. The error is an *api.Error that names the rule.
func ringRules(list []api.RingRule, env *filter.Env) (rules []ring.Rule, err error) {
	for i, r := range list {
		expression := r.Value
		switch form, known := ruleExpressions[r.Type]; {
		case known:
			expression = fmt.Sprintf(form, quote(r.Value))
		case r.Type == "all":
			if r.Value != "" {
				return nil, badRequest("rule %d: a rule for all packets takes no value", i+1)
			}
		case r.Type == "sip":
			expression = sipExpression(r.Value)
		}
		if r.Value == "" && r.Type != "all" {
			return nil, badRequest("rule %d: the value is missing", i+1)
		}
		f, err := filter.Compile(expression, env)
		if err != nil {
			wrong := filterError(err)
			wrong.Text = fmt.Sprintf("rule %d: %s", i+1, wrong.Text)
			return nil, wrong
		}
		if (r.SnapLength != 0) != (r.Action == "snap") {
			return nil, badRequest("rule %d: snapLength goes with the action snap", i+1)
		}
		rules = append(rules, ring.Rule{Filter: f, Negate: r.Negate, Action: ruleActions[r.Action], Bytes: r.SnapLength})
	}
	return rules, nil
}

// quote writes a value so that it is one, whatever is in it.
func quote(value string) string { return `"` + strings.ReplaceAll(value, `"`, `\"`) + `"` }

// sipExpression finds the messages of SIP with a number or a user in From, To or the request's address (RFC 3261 section 19.1, RFC 3966).
func sipExpression(number string) string {
	return `l7Protocol == SIP and regexp == ` + quote(`(?i)(?:sips?|tel):(?-i)`+regexp.QuoteMeta(number)+`[@;>:]`)
}
