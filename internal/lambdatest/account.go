package lambdatest

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxCode is how much code an account may hold in a region, and maxUnzipped what a package may be, in bytes.
const (
	maxCode     = 75 << 30
	maxUnzipped = 250 << 20
)

func (s *Server) accountSettings(request) (answer, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used, unreserved := s.stored(), s.config.Concurrency
	for _, f := range s.functions {
		if f.reserved != nil {
			unreserved -= *f.reserved
		}
	}
	return answer{body: map[string]any{
		"AccountLimit": map[string]any{
			"TotalCodeSize": int64(maxCode), "CodeSizeUnzipped": maxUnzipped, "CodeSizeZipped": maxZipped, "ConcurrentExecutions": s.config.Concurrency,
			"UnreservedConcurrentExecutions": max(unreserved, 0),
		},
		"AccountUsage": map[string]any{"TotalCodeSize": used, "FunctionCount": len(s.functions)},
	}}, nil
}

// stored is how many bytes of code the account holds. Each version counts. s.mu is held.
func (s *Server) stored() int64 {
	total := s.config.CodeUsed
	for _, f := range s.functions {
		total += f.latest.CodeSize
		for _, v := range f.versions {
			total += v.CodeSize
		}
	}
	return total
}

// room refuses code for which the account has no room. s.mu is held.
func (s *Server) room(more int64) *apiError {
	if s.stored()+more > maxCode {
		return failf(400, "CodeStorageExceededException", "Code storage limit exceeded.")
	}
	return nil
}

// givenRole is a role that was not created here, and that Lambda can assume all the same: that of RoleARN. s.mu is held.
func (s *Server) givenRole(name string) *role {
	arn := s.RoleARN()
	if name != arn[strings.LastIndexByte(arn, '/')+1:] || slices.Contains(s.config.UnknownRoles, arn) {
		return nil
	}
	return &role{arn: arn, trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`}
}

// CreateRole makes a role with a trust policy, as an operator would have done.
func (s *Server) CreateRole(name, trust string) (arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	arn = "arn:aws:iam::" + s.config.Account + ":role/" + name
	s.roles[strings.ToLower(name)] = &role{arn: arn, trust: trust, tags: map[string]string{}, policies: map[string]string{}}
	return arn
}

// AttachPolicies attaches managed policies to a role, and no others, as somebody else would have done.
func (s *Server) AttachPolicies(role string, arns ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[strings.ToLower(role)].attached = arns
}

// SetReserved sets the reserved concurrency of a function, as somebody else would have done.
func (s *Server) SetReserved(name string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.functions[name].reserved = &n
}

// MoveAlias points an alias to another version, as somebody else would have done. With an empty
// version it is deleted.
func (s *Server) MoveAlias(name, alias, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.functions[name]
	if version == "" {
		delete(f.aliases, alias)
		return
	}
	a := f.aliases[alias]
	if f.provisioned[alias] != nil {
		a.moving, a.from = time.Now().Add(s.config.MovingAlias), a.FunctionVersion
	}
	a.FunctionVersion = version
}

// simulate answers what the caller may do. s.mu is held.
func (s *Server) simulate(w http.ResponseWriter, form url.Values) {
	list := func(prefix string) (all []string) {
		for i := 1; form.Has(prefix + strconv.Itoa(i)); i++ {
			all = append(all, form.Get(prefix+strconv.Itoa(i)))
		}
		return all
	}
	actions, resources := list("ActionNames.member."), list("ResourceArns.member.")
	source := form.Get("PolicySourceArn")
	for _, a := range actions {
		if service, name, ok := strings.Cut(a, ":"); !ok || service == "" || name == "" {
			failf(400, "InvalidInput", "%s is no action", a).write(w, "iam")
			return
		}
	}
	switch {
	case !strings.HasPrefix(source, "arn:aws:iam::") || len(actions) == 0:
		failf(400, "ValidationError", "PolicySourceArn has to be that of a user, group or role, and an action has to be named").write(w, "iam")
		return
	case strings.HasSuffix(source, ":root"):
		failf(400, "InvalidInput", "Invalid Entity Arn: %s", source).write(w, "iam")
		return
	}
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	type result struct{ EvalActionName, EvalResourceName, EvalDecision string }
	type response struct {
		XMLName xml.Name `xml:"SimulatePrincipalPolicyResponse"`
		Results []result `xml:"SimulatePrincipalPolicyResult>EvaluationResults>member"`
		More    bool     `xml:"SimulatePrincipalPolicyResult>IsTruncated"`
	}
	var out response
	for _, a := range actions {
		for _, r := range resources {
			decision := "allowed"
			if explicit, denied := s.config.Denied[a]; explicit {
				decision = "explicitDeny"
			} else if denied {
				decision = "implicitDeny"
			}
			out.Results = append(out.Results, result{a, r, decision})
		}
	}
	writeXML(w, 200, out)
}
