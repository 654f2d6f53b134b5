// Package functionid names the functions of a service on platforms of the custom protocol: the same whether they are deployed over HTTP or in process.
package functionid

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// Max is the length of the longest id, in bytes.
const Max = 64

// The longest job suffix is "-job4294967295".
const (
	maxPrefix = Max - len("-job4294967295")
	hashSize  = 10 // hex digits, with a dash before them
)

// Of returns the id of a job's function: SERVICE-jobN, at most [Max] characters of a-z, 0-9 and dash. Different services have different ids.
func Of(service string, jobID uint32) string {
	return Prefix(service) + "-job" + strconv.FormatUint(uint64(jobID), 10)
}

// Prefix returns what the service's ids have before "-jobN": the service's name where it is fit for an id, else what can be kept of it and a hash of the whole.
func Prefix(service string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(service) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	clean := strings.TrimRight(b.String(), "-")
	// A name that looks as if it had a hash gets one too: it could be what became of another service's name.
	if clean == service && len(clean) <= maxPrefix && !looksHashed(clean) {
		return clean
	}
	sum := sha256.Sum256([]byte(service))
	clean = strings.TrimRight(clean[:min(len(clean), maxPrefix-hashSize-1)], "-")
	return strings.TrimLeft(clean+"-"+hex.EncodeToString(sum[:])[:hashSize], "-")
}

func looksHashed(name string) bool {
	tail := name
	if i := strings.LastIndexByte(name, '-'); i >= 0 {
		tail = name[i+1:]
	}
	return len(tail) == hashSize && strings.Trim(tail, "0123456789abcdef") == ""
}

// Job returns the job of a function id that Of made for the service.
func Job(service, id string) (uint32, bool) {
	rest, ok := strings.CutPrefix(id, Prefix(service)+"-job")
	n, err := strconv.ParseUint(rest, 10, 32)
	if !ok || err != nil || Of(service, uint32(n)) != id {
		return 0, false
	}
	return uint32(n), true
}
