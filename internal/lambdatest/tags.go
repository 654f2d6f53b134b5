package lambdatest

import (
	"maps"
	"strings"
)

func checkTags(tags map[string]string) *apiError {
	if len(tags) > 50 {
		return invalid("1 validation error detected: a resource has at most 50 tags")
	}
	for key, value := range tags {
		if len(key) > 128 || len(value) > 256 || strings.HasPrefix(strings.ToLower(key), "aws:") {
			return invalid("1 validation error detected: tag %q is not allowed", key)
		}
	}
	return nil
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
	s.remember(r.name, f)
	f.tags = maps.Clone(f.tags)
	for _, key := range r.URL.Query()["tagKeys"] {
		delete(f.tags, key)
	}
	return answer{}, nil
}
