package lambdatest

// maxCode is how much code an account may hold in a region, and maxUnzipped how large an unpacked
// package may be, in bytes.
const (
	maxCode     = 75 << 30
	maxUnzipped = 250 << 20
)

func (s *Server) accountSettings(request) (answer, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return answer{body: map[string]any{
		"AccountLimit": map[string]any{
			"TotalCodeSize": int64(maxCode), "CodeSizeUnzipped": maxUnzipped, "CodeSizeZipped": maxZipped,
			"ConcurrentExecutions":           s.config.Concurrency,
			"UnreservedConcurrentExecutions": max(s.unreserved(nil), 0),
		},
		"AccountUsage": map[string]any{"TotalCodeSize": s.stored(), "FunctionCount": len(s.functions)},
	}}, nil
}

// stored returns how many bytes of code the account holds. Each version counts. The caller holds
// s.mu.
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

// room refuses code for which the account has no room. The caller holds s.mu.
func (s *Server) room(more int64) *apiError {
	if s.stored()+more > maxCode {
		return failf(400, "CodeStorageExceededException", "Code storage limit exceeded.")
	}
	return nil
}
