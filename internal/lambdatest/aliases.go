package lambdatest

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"
)

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
		return answer{}, failf(400, "ValidationException",
			"1 validation error detected: Value '%s' at 'name' failed to satisfy constraint: Member must satisfy regular "+
				"expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)", in.Name)
	}
	if f.aliases[in.Name] != nil {
		return answer{}, failf(409, "ResourceConflictException", "Alias already exists: %s:%s", f.latest.FunctionArn, in.Name)
	}
	a := &alias{AliasArn: s.arn(r.name) + ":" + in.Name, Name: in.Name, unseen: s.config.NewAlias,
		stale: s.config.StaleReads}
	if err := s.point(f, a, in); err != nil {
		return answer{}, err
	}
	f.aliases[in.Name] = a
	return answer{body: *a}, nil
}

func (s *Server) point(f *function, a *alias, in aliasInput) *apiError {
	if in.FunctionVersion != "" {
		if in.FunctionVersion == "$LATEST" && f.provisioned[a.Name] != nil {
			return invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
		}
		if in.FunctionVersion != "$LATEST" {
			if n, err := strconv.Atoi(in.FunctionVersion); err != nil || f.versions[n] == nil {
				return failf(404, "ResourceNotFoundException", "Function not found: %s:%s", f.latest.FunctionArn,
					in.FunctionVersion)
			}
		}
		a.FunctionVersion = in.FunctionVersion
	}
	if in.RoutingConfig != nil {
		a.RoutingConfig = nil
		for version, weight := range in.RoutingConfig.AdditionalVersionWeights {
			n, err := strconv.Atoi(version)
			switch {
			case err != nil || f.versions[n] == nil:
				return failf(404, "ResourceNotFoundException", "Function not found: %s:%s", f.latest.FunctionArn, version)
			case len(in.RoutingConfig.AdditionalVersionWeights) > 1 || version == a.FunctionVersion ||
				a.FunctionVersion == "$LATEST" || weight < 0 || weight > 1:
				return invalid("Invalid weights: an alias has one additional published version, other than its own, with a " +
					"weight from 0 to 1")
			}
			a.RoutingConfig = in.RoutingConfig
		}
	}
	if in.Description != "" {
		a.Description = in.Description
	}
	a.RevisionId = s.nextRevision()
	return nil
}

// aliased finds the function and the alias of a request. The caller holds the lock.
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

// describe returns what Lambda reports of an alias. While an alias with provisioned concurrency
// moves, that includes weights.
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
	version := r.URL.Query().Get("FunctionVersion")
	for _, name := range slices.Sorted(maps.Keys(f.aliases)) {
		if a := f.aliases[name]; version == "" || version == a.FunctionVersion {
			all = append(all, a.describe())
		}
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
	delete(f.provisioned, a.Name)
	return answer{}, nil
}

// MoveAlias points an alias to another version, as somebody else would have done. If version is
// empty, it deletes the alias.
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
