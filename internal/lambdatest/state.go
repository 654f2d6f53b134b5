package lambdatest

import (
	"encoding/json"
	"maps"
)

// State is what the server holds of a function, for tests to inspect.
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
		CodeSha256: f.latest.CodeSha256, MemorySize: f.latest.MemorySize, Timeout: f.latest.Timeout, Role: f.latest.Role,
		Versions: sortedVersions(f),
		Aliases:  map[string]string{}, Tags: maps.Clone(f.tags), Reserved: f.reserved, Provisioned: map[string]int{},
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
