// Package functionid names the functions of a service on platforms that have one flat set of names.
package functionid

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// Scheme is what a platform asks of its function ids, besides that they are made of a-z, 0-9 and dashes.
type Scheme struct {
	Max    int  // length of the longest id, in bytes
	Letter bool // whether an id has to begin with a letter
}

var (
	// Protocol is the scheme of platforms of the custom protocol: the same whether functions are deployed over HTTP or in process.
	Protocol = Scheme{Max: 64}
	// CloudRun is the scheme of Cloud Run services, whose names are shorter than those of the functions on top of them.
	CloudRun = Scheme{Max: 49, Letter: true}
)

const (
	suffix   = "-job"
	longest  = len(suffix + "4294967295")
	hashSize = 10 // hex digits, with a dash before them
)

// Of returns the id of a job's function: SERVICE-jobN. Different services have different ids.
func (s Scheme) Of(service string, jobID uint32) string {
	return s.Prefix(service) + suffix + strconv.FormatUint(uint64(jobID), 10)
}

// Prefix returns what the service's ids have before "-jobN": the service's name where it is fit for an id, else what can be kept of it and a hash of the whole.
func (s Scheme) Prefix(service string) string {
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
	// A name that looks as if it had a hash gets one too: it could be what became of another service's name.
	most := s.Max - longest
	if clean == service && len(clean) <= most && !looksHashed(clean) {
		return clean
	}
	sum := sha256.Sum256([]byte(service))
	clean = strings.TrimRight(clean[:min(len(clean), most-hashSize-1)], "-")
	return strings.TrimLeft(clean+"-"+hex.EncodeToString(sum[:])[:hashSize], "-")
}

func looksHashed(name string) bool {
	tail := name[strings.LastIndexByte(name, '-')+1:]
	return len(tail) == hashSize && strings.Trim(tail, "0123456789abcdef") == ""
}

// Job returns the job of a function id that Of made for the service.
func (s Scheme) Job(service, id string) (uint32, bool) {
	rest, ok := strings.CutPrefix(id, s.Prefix(service)+suffix)
	n, err := strconv.ParseUint(rest, 10, 32)
	if !ok || err != nil || s.Of(service, uint32(n)) != id {
		return 0, false
	}
	return uint32(n), true
}
