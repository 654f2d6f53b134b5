package kit

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// Names describes the function ids of a platform that has one flat set of names. Ids consist of
// a-z, 0-9 and dashes.
type Names struct {
	Max    int  // length of the longestSuffix id, in bytes
	Letter bool // whether an id has to begin with a letter
}

var (
	// ProtocolNames is for the custom protocol. The ids are the same over HTTP and in process.
	ProtocolNames = Names{Max: 64}
	// CloudRunNames is for Cloud Run services, whose names are shorter than those of the functions
	// built on them.
	CloudRunNames = Names{Max: 49, Letter: true}
)

const (
	jobSuffix     = "-job"
	longestSuffix = len(jobSuffix + "4294967295")
	nameHashSize  = 10 // hex digits, with a dash before them
)

// Of returns the id of a job's function: SERVICE-jobN. Different services have different ids.
func (s Names) Of(service string, jobID uint32) string {
	return s.Prefix(service) + jobSuffix + strconv.FormatUint(uint64(jobID), 10)
}

// Prefix returns the part of the service's ids before "-jobN". It is the service's name if that is
// valid in an id, and otherwise its valid characters followed by a hash of the whole name.
func (s Names) Prefix(service string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(service) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	clean := strings.TrimRight(b.String(), "-")
	if s.Letter && (clean == "" || clean[0] < 'a') {
		clean = "s" + clean
	}
	// A name that looks as if it ended in a hash gets one too: it could equal the prefix of another
	// service.
	most := s.Max - longestSuffix
	if clean == service && len(clean) <= most && !looksHashed(clean) {
		return clean
	}
	sum := sha256.Sum256([]byte(service))
	clean = strings.TrimRight(clean[:min(len(clean), most-nameHashSize-1)], "-")
	return strings.TrimLeft(clean+"-"+hex.EncodeToString(sum[:])[:nameHashSize], "-")
}

func looksHashed(name string) bool {
	tail := name[strings.LastIndexByte(name, '-')+1:]
	return len(tail) == nameHashSize && strings.Trim(tail, "0123456789abcdef") == ""
}

// Job returns the job of a function id that Of returned for the service.
func (s Names) Job(service, id string) (uint32, bool) {
	rest, ok := strings.CutPrefix(id, s.Prefix(service)+jobSuffix)
	n, err := strconv.ParseUint(rest, 10, 32)
	if !ok || err != nil || s.Of(service, uint32(n)) != id {
		return 0, false
	}
	return uint32(n), true
}
