package lambdatest

import (
	"encoding/json"
	"maps"
	"regexp"
	"strconv"
	"time"
)

func (s *Server) publishVersion(r request, f *function) (answer, *apiError) {
	in, err := parse[input](r)
	if err != nil {
		return answer{}, err
	}
	if err := f.busy(); err != nil {
		return answer{}, err
	}
	if err := cmpRevision(in.RevisionId, f.latest.RevisionId); err != nil {
		return answer{}, err
	}
	if in.CodeSha256 != "" && in.CodeSha256 != f.latest.CodeSha256 {
		return answer{}, invalid("CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). Please try again with the CodeSHA256 in $LATEST.", in.CodeSha256, f.latest.CodeSha256)
	}
	description := ""
	set(&description, in.Description)
	if f.versions[f.newest] == nil || f.unpublished {
		if err := s.room(f.latest.CodeSize); err != nil {
			return answer{}, err
		}
	}
	return answer{body: s.publish(f, description)}, nil
}

// publish makes a version of $LATEST, or returns the newest where nothing has changed since.
func (s *Server) publish(f *function, description string) configuration {
	if newest := f.versions[f.newest]; newest != nil && !f.unpublished {
		return *newest
	}
	f.newest++
	v := f.latest
	v.Version = strconv.Itoa(f.newest)
	v.FunctionArn += ":" + v.Version
	v.RevisionId = s.nextRevision()
	if description != "" {
		v.Description = description
	}
	f.versions[f.newest] = &v
	f.unpublished = false
	f.latest.RevisionId = s.nextRevision()
	return v
}

func (s *Server) listVersions(r request, f *function) (answer, *apiError) {
	latest := f.latest
	latest.FunctionArn += ":$LATEST"
	all := []configuration{latest}
	for _, n := range sortedVersions(f) {
		all = append(all, *f.versions[n])
	}
	page, next := paged(r, all)
	return answer{body: map[string]any{"Versions": page, "NextMarker": next}}, nil
}

type aliasInput struct {
	Name, FunctionVersion, Description, RevisionId string
	RoutingConfig                                  *routing
}

var aliasPattern = regexp.MustCompile(`^[a-zA-Z0-9-_]+$`)

func (s *Server) createAlias(r request, f *function) (answer, *apiError) {
	in, err := parse[aliasInput](r)
	if err != nil {
		return answer{}, err
	}
	if _, nerr := strconv.Atoi(in.Name); nerr == nil || !aliasPattern.MatchString(in.Name) {
		return answer{}, failf(400, "ValidationException", "%q is no name of an alias", in.Name)
	}
	if f.aliases[in.Name] != nil {
		return answer{}, failf(409, "ResourceConflictException", "Alias already exists: %s:%s", f.latest.FunctionArn, in.Name)
	}
	a := &alias{AliasArn: s.arn(r.name) + ":" + in.Name, Name: in.Name, unseen: s.config.NewAlias, stale: s.config.StaleReads}
	if err := s.point(f, a, in); err != nil {
		return answer{}, err
	}
	f.aliases[in.Name] = a
	return answer{body: *a}, nil
}

func (s *Server) point(f *function, a *alias, in aliasInput) *apiError {
	if in.FunctionVersion != "" {
		if in.FunctionVersion != "$LATEST" {
			if n, err := strconv.Atoi(in.FunctionVersion); err != nil || f.versions[n] == nil {
				return failf(404, "ResourceNotFoundException", "Function not found: %s:%s", f.latest.FunctionArn, in.FunctionVersion)
			}
		}
		a.FunctionVersion = in.FunctionVersion
	}
	if in.RoutingConfig != nil {
		a.RoutingConfig = nil
		if len(in.RoutingConfig.AdditionalVersionWeights) > 0 {
			a.RoutingConfig = in.RoutingConfig
		}
	}
	if in.Description != "" {
		a.Description = in.Description
	}
	a.RevisionId = s.nextRevision()
	return nil
}

// aliased finds function and alias of a request. The caller holds the lock.
func (s *Server) aliased(r request) (*function, *alias, *apiError) {
	f, err := s.find(r.name)
	if err != nil {
		return nil, nil, err
	}
	a := f.aliases[r.uri["Name"]]
	if a == nil {
		return nil, nil, noAlias(f, r.uri["Name"])
	}
	return f, a, nil
}

func (s *Server) getAlias(r request) (answer, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, a, err := s.aliased(r)
	if err != nil {
		return answer{}, err
	}
	if a.stale > 0 {
		a.stale--
		if a.before == nil {
			return answer{}, noAlias(f, a.Name)
		}
		return answer{body: a.before.describe()}, nil
	}
	return answer{body: a.describe()}, nil
}

// describe is what Lambda tells of an alias. While an alias with provisioned concurrency moves, that
// is weights.
func (a *alias) describe() alias {
	told := *a
	if time.Now().Before(a.moving) {
		told.RoutingConfig = &routing{map[string]float64{a.from: 0.5}}
	}
	return told
}

func noAlias(f *function, name string) *apiError {
	return failf(404, "ResourceNotFoundException", "Cannot find alias arn: %s:%s", f.latest.FunctionArn, name)
}

func (s *Server) listAliases(r request, f *function) (answer, *apiError) {
	all := []alias{}
	for _, a := range f.aliases {
		all = append(all, a.describe())
	}
	return answer{body: map[string]any{"Aliases": all}}, nil
}

func (s *Server) updateAlias(r request) (answer, *apiError) {
	in, err := parse[aliasInput](r)
	if err != nil {
		return answer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, a, err := s.aliased(r)
	if err != nil {
		return answer{}, err
	}
	if err := cmpRevision(in.RevisionId, a.RevisionId); err != nil {
		return answer{}, err
	}
	moved := *a
	if err := s.point(f, &moved, in); err != nil {
		return answer{}, err
	}
	if moved.FunctionVersion != a.FunctionVersion && f.provisioned[a.Name] != nil {
		moved.moving, moved.from = time.Now().Add(s.config.MovingAlias), a.FunctionVersion
		f.provisioned[a.Name].ready = moved.moving
	}
	if s.config.StaleReads > 0 {
		before := *a
		before.before = nil
		moved.before, moved.stale = &before, s.config.StaleReads
	}
	*a = moved
	return answer{body: moved.describe()}, nil
}

func (s *Server) deleteAlias(r request) (answer, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, a, err := s.aliased(r)
	if err != nil {
		return answer{}, nil // an alias that does not exist is deleted
	}
	delete(f.aliases, a.Name)
	return answer{}, nil
}

func (s *Server) putConcurrency(r request, f *function) (answer, *apiError) {
	in, err := parse[struct{ ReservedConcurrentExecutions *int }](r)
	if err != nil {
		return answer{}, err
	}
	sum := 0
	for name, other := range s.functions {
		if name != r.name && other.reserved != nil {
			sum += *other.reserved
		}
	}
	if in.ReservedConcurrentExecutions == nil || s.config.Concurrency-sum-*in.ReservedConcurrentExecutions < min(100, s.config.Concurrency/10) {
		return answer{}, invalid("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].")
	}
	if warm := f.warm(""); *in.ReservedConcurrentExecutions < warm {
		return answer{}, invalid("ReservedConcurrentExecutions  %d should not be lower than function's total provisioned concurrency [%d].", *in.ReservedConcurrentExecutions, warm)
	}
	f.reserved = in.ReservedConcurrentExecutions
	return answer{body: in}, nil
}

func (s *Server) deleteConcurrency(r request, f *function) (answer, *apiError) {
	f.reserved = nil
	return answer{}, nil
}

func (s *Server) putProvisioned(r request, f *function) (answer, *apiError) {
	in, err := parse[struct{ ProvisionedConcurrentExecutions int }](r)
	if err != nil {
		return answer{}, err
	}
	v, err := s.version(f, r.qualifier())
	if err != nil {
		return answer{}, err
	}
	if v.Version == "$LATEST" {
		return answer{}, invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
	}
	if f.weighted(r.qualifier()) {
		return answer{}, errWeighted()
	}
	if total := f.warm(r.qualifier()) + in.ProvisionedConcurrentExecutions; f.reserved != nil && total > *f.reserved {
		return answer{}, invalid("Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
	}
	p := &provisioned{requested: in.ProvisionedConcurrentExecutions, ready: time.Now().Add(max(s.config.Updating, 0))}
	f.provisioned[r.qualifier()] = p
	return answer{body: p.describe()}, nil
}

func errWeighted() *apiError {
	return invalid("Alias with weights can not be used with Provisioned Concurrency")
}

// weighted reports whether an alias sends invocations to two versions.
func (f *function) weighted(qualifier string) bool {
	a := f.aliases[qualifier]
	return a != nil && a.describe().RoutingConfig != nil
}

// warm is the provisioned concurrency of the function, but for that of one qualifier.
func (f *function) warm(except string) int {
	total := 0
	for qualifier, p := range f.provisioned {
		if qualifier != except {
			total += p.requested
		}
	}
	return total
}

func (p *provisioned) describe() map[string]any {
	status, available := "IN_PROGRESS", 0
	if !time.Now().Before(p.ready) {
		status, available = "READY", p.requested
	}
	return map[string]any{
		"RequestedProvisionedConcurrentExecutions": p.requested, "AvailableProvisionedConcurrentExecutions": available,
		"AllocatedProvisionedConcurrentExecutions": available, "Status": status, "LastModified": time.Now().UTC().Format("2006-01-02T15:04:05.000+0000"),
	}
}

func (s *Server) getProvisioned(r request, f *function) (answer, *apiError) {
	p := f.provisioned[r.qualifier()]
	if p == nil {
		return answer{}, failf(404, "ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found for this function")
	}
	return answer{body: p.describe()}, nil
}

func (s *Server) deleteProvisioned(r request, f *function) (answer, *apiError) {
	if f.weighted(r.qualifier()) {
		return answer{}, errWeighted()
	}
	delete(f.provisioned, r.qualifier())
	return answer{}, nil
}

func (s *Server) tagResource(r request, f *function) (answer, *apiError) {
	in, err := parse[struct{ Tags map[string]string }](r)
	if err != nil {
		return answer{}, err
	}
	tags := maps.Clone(f.tags)
	maps.Copy(tags, in.Tags)
	if err := checkTags(tags); err != nil {
		return answer{}, err
	}
	s.remember(r.name, f)
	f.tags = tags
	return answer{}, nil
}

func (s *Server) listTags(r request, f *function) (answer, *apiError) {
	return answer{body: map[string]any{"Tags": maps.Clone(f.tags)}}, nil
}

func (s *Server) untagResource(r request, f *function) (answer, *apiError) {
	for _, key := range r.URL.Query()["tagKeys"] {
		delete(f.tags, key)
	}
	return answer{}, nil
}

// State is what the server holds of a function, for tests to look at.
type State struct {
	CodeSha256  string
	MemorySize  int
	Timeout     int
	Role        string
	Env         map[string]string
	Versions    []int             // published
	Aliases     map[string]string // to versions
	Tags        map[string]string
	Reserved    *int
	Provisioned map[string]int
	Config      map[string]any // the whole configuration of $LATEST
}

// Function returns what the server holds of a function.
func (s *Server) Function(name string) (State, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.find(name)
	if err != nil {
		return State{}, false
	}
	st := State{
		CodeSha256: f.latest.CodeSha256, MemorySize: f.latest.MemorySize, Timeout: f.latest.Timeout, Role: f.latest.Role, Versions: sortedVersions(f),
		Aliases: map[string]string{}, Tags: maps.Clone(f.tags), Reserved: f.reserved, Provisioned: map[string]int{},
	}
	if f.latest.Environment != nil {
		st.Env = maps.Clone(f.latest.Environment.Variables)
	}
	for name, a := range f.aliases {
		st.Aliases[name] = a.FunctionVersion
	}
	for qualifier, p := range f.provisioned {
		st.Provisioned[qualifier] = p.requested
	}
	text, _ := json.Marshal(f.latest)
	json.Unmarshal(text, &st.Config)
	return st, true
}
