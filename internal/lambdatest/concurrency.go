package lambdatest

import "time"

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

// SetReserved sets the reserved concurrency of a function, as somebody else would have done.
func (s *Server) SetReserved(name string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.functions[name].reserved = &n
}
