package lambdatest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// role is an IAM role.
type role struct {
	id       string // another one when a role is deleted and made again
	arn      string
	trust    string
	about    string // description
	boundary string
	tags     map[string]string
	policies map[string]string
	attached []string // ARNs of managed policies
	created  time.Time
	unseen   int // how many calls do not find it
	leaving  int // how many deletions still find a policy that was deleted
}

const lambdaTrust = `{"Version":"2012-10-17","Statement":[` +
	`{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// newRole makes a role that every service knows at once. The caller holds s.mu.
func (s *Server) newRole(name, trust string) *role {
	r := &role{
		id: iamID("AROA", 17), arn: "arn:aws:iam::" + s.config.Account + ":role/" + name, trust: trust,
		tags: map[string]string{}, policies: map[string]string{},
	}
	s.roles[strings.ToLower(name)] = r
	return r
}

// iamID returns an identity in IAM: a prefix that tells its kind, then letters and digits.
func iamID(prefix string, n int) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(newID(), "-", ""))[:n]
}

// roleOf finds a role by its ARN, or returns nil if it was not created here. The caller holds s.mu.
func (s *Server) roleOf(arn string) *role {
	return s.roles[strings.ToLower(arn[strings.LastIndexByte(arn, '/')+1:])]
}

// CreateRole makes a role with a trust policy, as an operator would have done.
func (s *Server) CreateRole(name, trust string) (arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newRole(name, trust).arn
}

// AttachPolicies attaches exactly the given managed policies to a role, as somebody else would have
// done.
func (s *Server) AttachPolicies(role string, arns ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[strings.ToLower(role)].attached = arns
}

// ReplaceRole deletes a role and makes it again unchanged, as somebody else would have done.
// Lambda's grants are for the deleted one.
func (s *Server) ReplaceRole(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[strings.ToLower(name)].id = iamID("AROA", 17)
}

// Roles returns the names of the roles created here with their inline policies.
func (s *Server) Roles() map[string]map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]map[string]string{}
	for name, r := range s.roles {
		all[name] = maps.Clone(r.policies)
	}
	return all
}

// Boundary returns the permissions boundary of a role, or "".
func (s *Server) Boundary(role string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roles[strings.ToLower(role)].boundary
}

// givenRole returns the role of RoleARN, which was not created here but which Lambda can assume.
// The caller holds s.mu.
func (s *Server) givenRole(name string) *role {
	arn := s.RoleARN()
	if name != arn[strings.LastIndexByte(arn, '/')+1:] || slices.Contains(s.config.UnknownRoles, arn) {
		return nil
	}
	return &role{id: "AROALAMBDABASIC", arn: arn, trust: lambdaTrust}
}

// As in IAM's official model.
var (
	roleNamePattern    = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)
	boundaryPattern    = regexp.MustCompile(`^arn:.*:policy/`)
	descriptionPattern = regexp.MustCompile(`^[\x{0009}\x{000A}\x{000D}\x{0020}-\x{007E}\x{00A1}-\x{00FF}]{0,1000}$`)
)

// maxInlinePolicy is the longest total of a role's inline policies, without spaces.
const maxInlinePolicy = 10_240

// serveIAM answers a call of IAM.
func (s *Server) serveIAM(w http.ResponseWriter, form url.Values) {
	s.mu.Lock()
	defer s.mu.Unlock()
	action := form.Get("Action")
	var result any
	var err *apiError
	switch action {
	case "SimulatePrincipalPolicy":
		result, err = s.simulate(form)
	case "CreateRole":
		result, err = s.createRole(form)
	default:
		name := form.Get("RoleName")
		r := s.roles[strings.ToLower(name)]
		if r == nil && action == "GetRole" {
			r = s.givenRole(name)
		}
		if r == nil || r.unseen > 0 {
			err = failf(404, "NoSuchEntity", "The role with name %s cannot be found.", name)
			if r != nil {
				r.unseen--
			}
			break
		}
		result, err = s.onRole(action, name, form, r)
	}
	if err != nil {
		err.write(w, "iam")
		return
	}
	writeQuery(w, action, "https://iam.amazonaws.com/doc/2010-05-08/", result)
}

// onRole performs an action on a role that exists. The caller holds s.mu.
func (s *Server) onRole(action, name string, form url.Values, r *role) (any, *apiError) {
	policy := form.Get("PolicyName")
	switch action {
	case "GetRole":
		return roleAnswer{r.describe(name)}, nil
	case "PutRolePolicy":
		document := form.Get("PolicyDocument")
		if !json.Valid([]byte(document)) {
			return nil, failf(400, "MalformedPolicyDocument", "Syntax errors in policy.")
		}
		size := len(document)
		for other, text := range r.policies {
			if other != policy {
				size += len(text)
			}
		}
		if size > maxInlinePolicy {
			return nil, failf(409, "LimitExceeded", "Maximum policy size of %d bytes exceeded for role %s", maxInlinePolicy,
				name)
		}
		r.policies[policy] = document
	case "DeleteRolePolicy":
		if _, ok := r.policies[policy]; !ok {
			return nil, failf(404, "NoSuchEntity", "The role policy with name %s cannot be found.", policy)
		}
		delete(r.policies, policy)
		r.leaving = s.config.NewRole
	case "ListRolePolicies":
		page, marker := iamPage(form, slices.Sorted(maps.Keys(r.policies)))
		return struct {
			Names       []string `xml:"PolicyNames>member"`
			IsTruncated bool
			Marker      string `xml:",omitempty"`
		}{page, marker != "", marker}, nil
	case "ListAttachedRolePolicies":
		type attached struct{ PolicyName, PolicyArn string }
		out := struct {
			Policies    []attached `xml:"AttachedPolicies>member"`
			IsTruncated bool
			Marker      string `xml:",omitempty"`
		}{}
		var page []string
		page, out.Marker = iamPage(form, r.attached)
		out.IsTruncated = out.Marker != ""
		for _, arn := range page {
			out.Policies = append(out.Policies, attached{arn[strings.LastIndexByte(arn, '/')+1:], arn})
		}
		return out, nil
	case "AttachRolePolicy":
		if arn := form.Get("PolicyArn"); !slices.Contains(r.attached, arn) {
			r.attached = append(r.attached, arn)
		}
	case "DetachRolePolicy":
		i := slices.Index(r.attached, form.Get("PolicyArn"))
		if i < 0 {
			return nil, failf(404, "NoSuchEntity", "Policy %s was not found.", form.Get("PolicyArn"))
		}
		r.attached = slices.Delete(slices.Clone(r.attached), i, i+1)
	case "PutRolePermissionsBoundary":
		if err := checkBoundary(form); err != nil {
			return nil, err
		}
		r.boundary = form.Get("PermissionsBoundary")
	case "DeleteRolePermissionsBoundary":
		if r.boundary == "" {
			return nil, failf(404, "NoSuchEntity", "Role %s does not have a permissions boundary.", name)
		}
		r.boundary = ""
	case "DeleteRole":
		switch {
		case len(r.policies) > 0 || r.leaving > 0:
			r.leaving--
			return nil, failf(409, "DeleteConflict", "Cannot delete entity, must delete policies first.")
		case len(r.attached) > 0:
			return nil, failf(409, "DeleteConflict", "Cannot delete entity, must detach all policies first.")
		}
		delete(s.roles, strings.ToLower(name))
	default:
		return nil, failf(400, "InvalidAction", "Could not find operation %s for version 2010-05-08", action)
	}
	return nil, nil
}

// createRole makes a role that the services come to know one after another. The caller holds s.mu.
func (s *Server) createRole(form url.Values) (any, *apiError) {
	name, trust, tags := form.Get("RoleName"), form.Get("AssumeRolePolicyDocument"), formTags(form)
	if s.roles[strings.ToLower(name)] != nil || s.givenRole(name) != nil {
		return nil, failf(409, "EntityAlreadyExists", "Role with name %s already exists.", name)
	}
	if !roleNamePattern.MatchString(name) || !descriptionPattern.MatchString(form.Get("Description")) {
		return nil, failf(400, "ValidationError",
			"1 validation error detected: the role's name or description does not match its pattern")
	}
	if !json.Valid([]byte(trust)) {
		return nil, failf(400, "MalformedPolicyDocument", "This policy contains invalid Json")
	}
	if err := checkBoundary(form); err != nil {
		return nil, err
	}
	if err := checkTags(tags); err != nil {
		return nil, failf(400, "InvalidInput", "%s", err.message)
	}
	r := s.newRole(name, trust)
	r.about, r.boundary, r.tags = form.Get("Description"), form.Get("PermissionsBoundary"), tags
	r.created, r.unseen = time.Now(), s.config.NewRole
	return roleAnswer{r.describe(name)}, nil
}

func checkBoundary(form url.Values) *apiError {
	if b := form.Get("PermissionsBoundary"); b != "" && !boundaryPattern.MatchString(b) {
		return failf(400, "InvalidInput", "ARN %s is not valid.", b)
	}
	return nil
}

// formList returns the numbered values of a query.
func formList(form url.Values, prefix string) (all []string) {
	for i := 1; form.Has(prefix + strconv.Itoa(i)); i++ {
		all = append(all, form.Get(prefix+strconv.Itoa(i)))
	}
	return all
}

func formTags(form url.Values) map[string]string {
	tags := map[string]string{}
	for i := 1; form.Has(fmt.Sprintf("Tags.member.%d.Key", i)); i++ {
		tags[form.Get(fmt.Sprintf("Tags.member.%d.Key", i))] = form.Get(fmt.Sprintf("Tags.member.%d.Value", i))
	}
	return tags
}

// iamPage returns the page of a list that Marker and MaxItems ask for.
func iamPage(form url.Values, all []string) (page []string, marker string) {
	first, err := strconv.Atoi(form.Get("Marker"))
	if err != nil || first < 0 || first > len(all) {
		first = 0
	}
	size, err := strconv.Atoi(form.Get("MaxItems"))
	if err != nil || size < 1 || size > 100 {
		size = 100
	}
	if last := first + size; last < len(all) {
		return all[first:last], strconv.Itoa(last)
	}
	return all[first:], ""
}

type roleAnswer struct{ Role *roleXML }

type roleXML struct {
	Path, RoleName, RoleId, Arn, CreateDate string
	AssumeRolePolicyDocument                string // as JSON, escaped as in a URL
	Description                             string `xml:",omitempty"`
	MaxSessionDuration                      int
	PermissionsBoundary                     *boundaryXML
	Tags                                    []tagXML `xml:"Tags>member"`
}

type boundaryXML struct{ PermissionsBoundaryType, PermissionsBoundaryArn string }

type tagXML struct{ Key, Value string }

func (r *role) describe(name string) *roleXML {
	out := &roleXML{
		Path: "/", RoleName: name, RoleId: r.id, Arn: r.arn, CreateDate: r.created.UTC().Format(time.RFC3339),
		AssumeRolePolicyDocument: escape(r.trust, false),
		Description:              r.about, MaxSessionDuration: 3600,
	}
	if r.boundary != "" {
		out.PermissionsBoundary = &boundaryXML{"Policy", r.boundary}
	}
	for _, key := range slices.Sorted(maps.Keys(r.tags)) {
		out.Tags = append(out.Tags, tagXML{key, r.tags[key]})
	}
	return out
}

// simulate answers what the caller may do. The caller holds s.mu.
func (s *Server) simulate(form url.Values) (any, *apiError) {
	actions, resources := formList(form, "ActionNames.member."), formList(form, "ResourceArns.member.")
	source := form.Get("PolicySourceArn")
	for _, a := range actions {
		if service, name, ok := strings.Cut(a, ":"); !ok || service == "" || name == "" {
			return nil, failf(400, "InvalidInput", "Invalid Action Name: %s", a)
		}
	}
	switch {
	case !strings.HasPrefix(source, "arn:aws:iam::") || len(actions) == 0:
		return nil, failf(400, "ValidationError",
			"PolicySourceArn must be the ARN of a user, group or role, and ActionNames must not be empty")
	case strings.HasSuffix(source, ":root"):
		return nil, failf(400, "InvalidInput", "Invalid Entity Arn: %s does not clearly define entity type and name.", source)
	}
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	type result struct{ EvalActionName, EvalResourceName, EvalDecision string }
	var out struct {
		Results     []result `xml:"EvaluationResults>member"`
		IsTruncated bool
	}
	for _, a := range actions {
		decision := "allowed"
		if explicit, denied := s.config.Denied[a]; explicit {
			decision = "explicitDeny"
		} else if denied {
			decision = "implicitDeny"
		}
		for _, r := range resources {
			out.Results = append(out.Results, result{a, r, decision})
		}
	}
	return out, nil
}
