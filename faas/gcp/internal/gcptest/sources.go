package gcptest

import (
	"fmt"
	"strconv"
)

// keptSources is how many versions of a function's source Google keeps, including the one in use.
const keptSources = 4

// sourceBucket is the bucket in which Google keeps its copies of sources.
const sourceBucket = "gcf-v2-sources-123456789-us-central1"

// kept is Google's copy of a source.
type kept struct {
	generation string
	zip        []byte
}

// copySource copies the source of a function to Google's bucket, and returns the copy as a
// storageSource. The caller holds the lock.
func (s *Server) copySource(id string, source map[string]any) ([]byte, map[string]any, error) {
	bucket, object, generation := str(source, "bucket"), str(source, "object"), fmt.Sprint(source["generation"])
	var zip []byte
	switch bucket {
	case uploadBucket:
		if up := s.uploads[object]; up != nil {
			zip = up.zip
		}
	case sourceBucket:
		for _, one := range s.sources[object] {
			if source["generation"] == nil || one.generation == generation { // without one, the newest
				zip = one.zip
			}
		}
	}
	if zip == nil {
		return nil, nil, fmt.Errorf("could not read the source archive gs://%s/%s#%v: the object was not found", bucket,
			object, source["generation"])
	}
	name := id + "/function-source.zip"
	one := kept{strconv.Itoa(1700000000000000 + s.next()), zip}
	all := append(s.sources[name], one)
	s.sources[name] = all[max(0, len(all)-keptSources):]
	return zip, map[string]any{"bucket": sourceBucket, "object": name, "generation": one.generation}, nil
}

// DropSources makes Google forget all sources but those in use.
func (s *Server) DropSources() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, all := range s.sources {
		s.sources[name] = all[len(all)-1:]
	}
}
