package lambdatest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// role is one of IAM.
type role struct {
	arn      string
	trust    string
	boundary string
	tags     map[string]string
	policies map[string]string
	attached []string // ARNs of managed policies
	usable   time.Time
	unseen   int // how many calls do not find it
}

// checkRole refuses a role that Lambda cannot assume, as Lambda words it.
func (s *Server) checkRole(arn string) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	cannot := invalid("The role defined for the function cannot be assumed by Lambda.")
	if slices.Contains(s.config.UnknownRoles, arn) {
		return cannot
	}
	if !strings.HasPrefix(arn, "arn:aws:iam::") {
		return failf(400, "ValidationException", "1 validation error detected: Value '%s' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern", arn)
	}
	r := s.roles[strings.ToLower(arn[strings.LastIndexByte(arn, '/')+1:])]
	if r != nil && (time.Now().Before(r.usable) || !strings.Contains(r.trust, "lambda.amazonaws.com")) {
		return cannot
	}
	return nil
}

// Roles returns the names of the roles created here with their inline policies.
func (s *Server) Roles() map[string]map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]map[string]string{}
	for name, r := range s.roles {
		all[name] = r.policies
	}
	return all
}

// routeOthers finds the operation of a request to another service than Lambda.
func (s *Server) routeOthers(r *http.Request, body []byte) (operation, *apiError) {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		name := target[strings.LastIndexByte(target, '.')+1:]
		return operation{call: Call{Service: "logs", Operation: name, Body: body}, serve: s.serveLogs}, nil
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return operation{}, failf(400, "MalformedQueryString", "%v", err)
		}
		service := "iam"
		if form.Get("Action") == "GetCallerIdentity" {
			service = "sts"
		}
		return operation{call: Call{Service: service, Operation: form.Get("Action"), Body: body}, serve: s.serveQuery}, nil
	}
	if r.Header.Get("X-Amz-Content-Sha256") != "" {
		return operation{call: Call{Service: "s3", Operation: s3Operation(r), Body: body}, serve: s.serveS3}, nil
	}
	return operation{call: Call{Service: "lambda"}}, failf(404, "UnknownOperationException", "no operation is at %s %s", r.Method, r.URL.Path)
}

// As in IAM's official model.
var (
	roleNamePattern    = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)
	descriptionPattern = regexp.MustCompile(`^[\x{0009}\x{000A}\x{000D}\x{0020}-\x{007E}\x{00A1}-\x{00FF}]{0,1000}$`)
)

func (s *Server) serveQuery(w http.ResponseWriter, r *http.Request, body []byte) {
	form, _ := url.ParseQuery(string(body))
	s.mu.Lock()
	defer s.mu.Unlock()
	name := form.Get("RoleName")
	missing := failf(404, "NoSuchEntity", "The role with name %s cannot be found.", name)
	existing := s.roles[strings.ToLower(name)]
	action := form.Get("Action")
	if existing == nil && action == "GetRole" {
		existing = s.givenRole(name)
	}
	if existing == nil && action != "CreateRole" && action != "GetCallerIdentity" && action != "SimulatePrincipalPolicy" {
		missing.write(w, "iam")
		return
	}
	if existing != nil && existing.unseen > 0 && action != "CreateRole" {
		existing.unseen--
		missing.write(w, "iam")
		return
	}
	switch action {
	case "GetCallerIdentity":
		type result struct{ Account, Arn, UserId string }
		type response struct {
			XMLName xml.Name `xml:"GetCallerIdentityResponse"`
			Result  result   `xml:"GetCallerIdentityResult"`
		}
		writeXML(w, 200, response{Result: result{s.config.Account, s.config.Caller, "AIDATEST"}})
	case "SimulatePrincipalPolicy":
		s.simulate(w, form)
	case "CreateRole":
		if existing != nil {
			failf(409, "EntityAlreadyExists", "Role with name %s already exists.", name).write(w, "iam")
			return
		}
		if !roleNamePattern.MatchString(name) || !descriptionPattern.MatchString(form.Get("Description")) || !json.Valid([]byte(form.Get("AssumeRolePolicyDocument"))) {
			failf(400, "ValidationError", "role name, description or trust policy is invalid").write(w, "iam")
			return
		}
		created := &role{
			arn: "arn:aws:iam::" + s.config.Account + ":role/" + name, trust: form.Get("AssumeRolePolicyDocument"), boundary: form.Get("PermissionsBoundary"),
			tags: map[string]string{}, policies: map[string]string{}, usable: time.Now().Add(s.config.RoleDelay), unseen: s.config.NewRole,
		}
		for i := 1; form.Has("Tags.member." + strconv.Itoa(i) + ".Key"); i++ {
			member := "Tags.member." + strconv.Itoa(i) + "."
			created.tags[form.Get(member+"Key")] = form.Get(member + "Value")
		}
		if err := checkTags(created.tags); err != nil {
			failf(400, "ValidationError", "%s", err.message).write(w, "iam")
			return
		}
		s.roles[strings.ToLower(name)] = created
		writeXML(w, 200, roleAnswer{XMLName: xml.Name{Local: "CreateRoleResponse"}, Created: created.describe(name)})
	case "GetRole":
		writeXML(w, 200, roleAnswer{XMLName: xml.Name{Local: "GetRoleResponse"}, Found: existing.describe(name)})
	case "PutRolePolicy":
		if !json.Valid([]byte(form.Get("PolicyDocument"))) {
			failf(400, "MalformedPolicyDocument", "the policy is no JSON").write(w, "iam")
			return
		}
		existing.policies[form.Get("PolicyName")] = form.Get("PolicyDocument")
		writeXML(w, 200, roleAnswer{XMLName: xml.Name{Local: "PutRolePolicyResponse"}})
	case "DeleteRolePolicy":
		if _, ok := existing.policies[form.Get("PolicyName")]; !ok {
			failf(404, "NoSuchEntity", "The role policy with name %s cannot be found.", form.Get("PolicyName")).write(w, "iam")
			return
		}
		delete(existing.policies, form.Get("PolicyName"))
		writeXML(w, 200, roleAnswer{XMLName: xml.Name{Local: "DeleteRolePolicyResponse"}})
	case "ListAttachedRolePolicies":
		type policy struct{ PolicyName, PolicyArn string }
		var answer struct {
			XMLName  xml.Name `xml:"ListAttachedRolePoliciesResponse"`
			Policies []policy `xml:"ListAttachedRolePoliciesResult>AttachedPolicies>member"`
		}
		for _, arn := range existing.attached {
			answer.Policies = append(answer.Policies, policy{arn[strings.LastIndexByte(arn, '/')+1:], arn})
		}
		writeXML(w, 200, answer)
	case "ListRolePolicies":
		var answer struct {
			XMLName xml.Name `xml:"ListRolePoliciesResponse"`
			Names   []string `xml:"ListRolePoliciesResult>PolicyNames>member"`
		}
		answer.Names = slices.Sorted(maps.Keys(existing.policies))
		writeXML(w, 200, answer)
	case "DeleteRole":
		if len(existing.policies) > 0 {
			failf(409, "DeleteConflict", "Cannot delete entity, must delete policies first.").write(w, "iam")
			return
		}
		if len(existing.attached) > 0 {
			failf(409, "DeleteConflict", "Cannot delete entity, must detach all policies first.").write(w, "iam")
			return
		}
		delete(s.roles, strings.ToLower(name))
		writeXML(w, 200, roleAnswer{XMLName: xml.Name{Local: "DeleteRoleResponse"}})
	default:
		failf(400, "InvalidAction", "Could not find operation %s", action).write(w, "iam")
	}
}

type roleAnswer struct {
	XMLName xml.Name
	Created *roleXML `xml:"CreateRoleResult>Role"`
	Found   *roleXML `xml:"GetRoleResult>Role"`
}

type roleXML struct {
	Path, RoleName, Arn      string
	AssumeRolePolicyDocument string   // as JSON, escaped as in a URL
	Tags                     []tagXML `xml:"Tags>member"`
}

type tagXML struct{ Key, Value string }

func (r *role) describe(name string) *roleXML {
	out := &roleXML{Path: "/", RoleName: name, Arn: r.arn, AssumeRolePolicyDocument: strings.ReplaceAll(url.QueryEscape(r.trust), "+", "%20")}
	for key, value := range r.tags {
		out.Tags = append(out.Tags, tagXML{key, value})
	}
	return out
}

func (s *Server) serveLogs(w http.ResponseWriter, r *http.Request, body []byte) {
	in := struct{ LogGroupName string }{}
	switch target := r.Header.Get("X-Amz-Target"); {
	case r.Header.Get("Content-Type") != "application/x-amz-json-1.1":
		failf(400, "SerializationException", "the content type is %q", r.Header.Get("Content-Type")).write(w, "logs")
		return
	case target == "Logs_20140328.FilterLogEvents":
		s.filterLogEvents(w, body)
		return
	case target != "Logs_20140328.DeleteLogGroup":
		failf(400, "UnknownOperationException", "only DeleteLogGroup and FilterLogEvents are known").write(w, "logs")
		return
	}
	if err := json.Unmarshal(body, &in); err != nil {
		failf(400, "SerializationException", "%v", err).write(w, "logs")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.logGroups[in.LogGroupName] {
		failf(400, "ResourceNotFoundException", "The specified log group does not exist.").write(w, "logs")
		return
	}
	delete(s.logGroups, in.LogGroupName)
	s.logs.remove(in.LogGroupName)
	w.WriteHeader(http.StatusOK)
}

// maxKeys is the most that S3 lists in one answer.
const maxKeys = 1000

func s3Operation(r *http.Request) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	kind := "Bucket"
	switch {
	case key != "":
		kind = "Object"
	case r.URL.Query().Has("lifecycle"):
		return "PutBucketLifecycleConfiguration"
	case r.URL.Query().Get("list-type") == "2":
		return "ListObjectsV2"
	}
	verb := map[string]string{"PUT": "Put", "GET": "Get", "HEAD": "Head", "DELETE": "Delete"}[r.Method]
	if kind == "Bucket" && verb == "Put" {
		verb = "Create"
	}
	return verb + kind
}

func (s *Server) serveS3(w http.ResponseWriter, r *http.Request, body []byte) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	objects, exists := s.buckets[bucket]
	operation := s3Operation(r)
	if !exists && operation != "CreateBucket" {
		failf(404, "NoSuchBucket", "The specified bucket does not exist").write(w, "s3")
		return
	}
	data, found := objects[key]
	switch operation {
	case "CreateBucket":
		if exists {
			failf(409, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it.").write(w, "s3")
			return
		}
		inRegion := bytes.Contains(body, []byte("<LocationConstraint>"+s.config.Region+"<"))
		if inRegion == (s.config.Region == "us-east-1") {
			failf(400, "IllegalLocationConstraintException", "The location constraint is incompatible with the region.").write(w, "s3")
			return
		}
		s.buckets[bucket] = map[string][]byte{}
	case "PutBucketLifecycleConfiguration":
		sum := sha256.Sum256(body)
		if r.Header.Get("X-Amz-Checksum-Sha256") != base64.StdEncoding.EncodeToString(sum[:]) {
			failf(400, "InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*").write(w, "s3")
			return
		}
	case "HeadBucket":
		w.Header().Set("X-Amz-Bucket-Region", s.config.Region)
	case "PutObject":
		objects[key] = body
	case "HeadObject", "GetObject":
		if !found {
			if r.Method == "HEAD" {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			failf(404, "NoSuchKey", "The specified key does not exist.").write(w, "s3")
			return
		}
		w.Header().Set("Content-Length", itoa(int64(len(data))))
		if r.Method == "GET" {
			io.Copy(w, bytes.NewReader(data))
		}
	case "DeleteObject":
		delete(objects, key)
		w.WriteHeader(http.StatusNoContent)
	case "ListObjectsV2":
		type content struct{ Key string }
		type list struct {
			XMLName               xml.Name `xml:"ListBucketResult"`
			Contents              []content
			IsTruncated           bool
			NextContinuationToken string `xml:",omitempty"`
		}
		var l list
		query := r.URL.Query()
		for _, name := range slices.Sorted(maps.Keys(objects)) {
			if !strings.HasPrefix(name, query.Get("prefix")) || name <= query.Get("continuation-token") {
				continue
			}
			if l.IsTruncated = len(l.Contents) == maxKeys; l.IsTruncated {
				l.NextContinuationToken = l.Contents[maxKeys-1].Key
				break
			}
			l.Contents = append(l.Contents, content{name})
		}
		writeXML(w, 200, l)
	default:
		failf(501, "NotImplemented", "%s is not known here", operation).write(w, "s3")
	}
}

// CreateBucket makes a bucket, as an operator would have done.
func (s *Server) CreateBucket(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets[name] = map[string][]byte{}
}
