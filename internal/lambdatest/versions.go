package lambdatest

import "strconv"

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
		return answer{}, invalid("CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). Please try again "+
			"with the CodeSHA256 in $LATEST.", in.CodeSha256, f.latest.CodeSha256)
	}
	description := ""
	set(&description, in.Description)
	if f.versions[f.newest] == nil || f.unpublished {
		if err := s.room(f.latest.CodeSize); err != nil {
			return answer{}, err
		}
		s.remember(r.name, f)
	}
	return answer{body: s.publish(f, description)}, nil
}

// publish makes a version of $LATEST, or returns the newest version if nothing has changed since.
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

func (s *Server) listVersions(r request) (answer, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.read(r.name)
	if err != nil {
		return answer{}, err
	}
	latest := f.latest
	latest.FunctionArn += ":$LATEST"
	all := []configuration{latest}
	for _, n := range sortedVersions(f) {
		all = append(all, *f.versions[n])
	}
	page, next := paged(r, all)
	return answer{body: map[string]any{"Versions": page, "NextMarker": next}}, nil
}
