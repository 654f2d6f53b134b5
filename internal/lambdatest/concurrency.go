package lambdatest

import "time"

// leaveUnreserved returns how many concurrent executions an account must leave to functions without
// a reservation.
func (s *Server) leaveUnreserved() int { return min(100, s.config.Concurrency) }

// unreserved returns the concurrency that is left to functions without a reservation, ignoring the
// reservation of one function. The caller holds s.mu.
func (s *Server) unreserved(except *function) int {
	left := s.config.Concurrency
	for _, f := range s.functions {
		switch {
		case f == except:
		case f.reserved != nil:
			left -= *f.reserved
		default:
			left -= f.warm("")
		}
	}
	return left
}

func (s *Server) putConcurrency(r request, f *function) (answer, *apiError) {
	in, err := parse[struct{ ReservedConcurrentExecutions *int }](r)
	if err != nil {
		return answer{}, err
	}
	n, warm, least := in.ReservedConcurrentExecutions, f.warm(""), s.leaveUnreserved()
	switch {
	case n == nil || *n < 0:
		return answer{}, failf(400, "ValidationException", "ReservedConcurrentExecutions must not be negative")
	case s.unreserved(f)-*n < least:
		return answer{}, invalid("Specified ReservedConcurrentExecutions for function decreases account's "+
			"UnreservedConcurrentExecution below its minimum value of [%d].", least)
	case *n < warm:
		return answer{}, invalid("ReservedConcurrentExecutions  %d should not be lower than function's total provisioned "+
			"concurrency [%d].", *n, warm)
	}
	s.remember(r.name, f)
	f.reserved = n
	return answer{body: in}, nil
}

func (s *Server) deleteConcurrency(r request, f *function) (answer, *apiError) {
	s.remember(r.name, f)
	f.reserved = nil
	return answer{}, nil
}

func (s *Server) putProvisioned(r request, f *function) (answer, *apiError) {
	in, err := parse[struct{ ProvisionedConcurrentExecutions int }](r)
	if err != nil {
		return answer{}, err
	}
	q, n := r.qualifier(), in.ProvisionedConcurrentExecutions
	v, err := s.version(f, q)
	if err != nil {
		return answer{}, err
	}
	total, least := f.warm(q)+n, s.leaveUnreserved()
	switch {
	case q == "" || v.Version == "$LATEST":
		return answer{}, invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
	case n < 1:
		return answer{}, failf(400, "ValidationException", "ProvisionedConcurrentExecutions must be at least 1")
	case f.weighted(q):
		return answer{}, errWeighted()
	case f.aliases[q] != nil && f.provisioned[v.Version] != nil:
		return answer{}, invalid("Alias can not be used for Provisioned Concurrency configuration on an already " +
			"Provisioned version")
	case f.aliases[q] == nil && f.provisionedAlias(v.Version):
		return answer{}, invalid("Version is pointed to by a Provisioned Concurrency alias")
	case f.reserved != nil && total > *f.reserved:
		return answer{}, invalid("Requested Provisioned Concurrency should not be greater than the " +
			"reservedConcurrentExecution for function")
	case f.reserved == nil && s.unreserved(f)-total < least:
		return answer{}, invalid("Specified ConcurrentExecutions for function decreases account's "+
			"UnreservedConcurrentExecution below its minimum value of [%d].", least)
	}
	p := &provisioned{requested: n, ready: time.Now().Add(max(s.config.Updating, 0)), modified: s.lastModified()}
	f.provisioned[q] = p
	return answer{body: p.describe()}, nil
}

// provisionedAlias reports whether an alias with provisioned concurrency points to a version.
func (f *function) provisionedAlias(version string) bool {
	for _, a := range f.aliases {
		if a.FunctionVersion == version && f.provisioned[a.Name] != nil {
			return true
		}
	}
	return false
}

func errNotProvisioned() *apiError {
	return failf(404, "ProvisionedConcurrencyConfigNotFoundException",
		"No Provisioned Concurrency Config found for this function")
}

func errWeighted() *apiError {
	return invalid("Alias with weights can not be used with Provisioned Concurrency")
}

// weighted reports whether an alias sends invocations to two versions.
func (f *function) weighted(qualifier string) bool {
	a := f.aliases[qualifier]
	return a != nil && a.describe().RoutingConfig != nil
}

// warm returns the provisioned concurrency of the function, without that of one qualifier.
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
	told := map[string]any{
		"RequestedProvisionedConcurrentExecutions": p.requested, "AvailableProvisionedConcurrentExecutions": 0,
		"AllocatedProvisionedConcurrentExecutions": 0, "Status": "IN_PROGRESS", "LastModified": p.modified,
	}
	switch {
	case time.Now().Before(p.ready):
	case p.failure != "":
		told["Status"], told["StatusReason"] = "FAILED", p.failure
	default:
		told["Status"], told["AllocatedProvisionedConcurrentExecutions"],
			told["AvailableProvisionedConcurrentExecutions"] = "READY", p.requested, p.requested
	}
	return told
}

// FailProvisioned makes the provisioned concurrency of a version or alias fail, as Lambda does if
// its instances do not start.
func (s *Server) FailProvisioned(name, qualifier, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.functions[name].provisioned[qualifier].failure = reason
}

func (s *Server) getProvisioned(r request, f *function) (answer, *apiError) {
	p := f.provisioned[r.qualifier()]
	if p == nil {
		return answer{}, errNotProvisioned()
	}
	return answer{body: p.describe()}, nil
}

func (s *Server) deleteProvisioned(r request, f *function) (answer, *apiError) {
	if f.weighted(r.qualifier()) {
		return answer{}, errWeighted()
	}
	if f.provisioned[r.qualifier()] == nil {
		return answer{}, errNotProvisioned()
	}
	delete(f.provisioned, r.qualifier())
	return answer{}, nil
}

// SetReserved sets the reserved concurrency of a function, as somebody else would have done.
func (s *Server) SetReserved(name string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.functions[name].reserved = &n
}
