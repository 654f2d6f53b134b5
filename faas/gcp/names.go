//go:build !faas_only || faas_gcp

package gcp

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// A function id is SERVICE-jobN: a letter, then letters, digits and dashes, fewer than 50, which is what the name of a Cloud Run service may have and
// less than what that of a function may. The longest job suffix is "-job4294967295".
const (
	maxFunctionID = 49
	maxPrefix     = maxFunctionID - len("-job4294967295")
	hashSize      = 10 // hex digits, with a dash before them
)

// functionID returns the id of a job's function. Different services have different ids.
func functionID(service string, jobID uint32) string {
	return servicePrefix(service) + "-job" + strconv.FormatUint(uint64(jobID), 10)
}

// servicePrefix returns the service's name where it is fit for an id, else what can be kept of it and a hash of the whole. It is also the
// value of the label by which a service's functions are known.
func servicePrefix(service string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(service) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	clean := strings.TrimRight(b.String(), "-")
	if clean == "" || clean[0] < 'a' {
		clean = "s" + clean // an id begins with a letter
	}
	// A name that looks as if it had a hash gets one too: it could be what became of another service's name.
	if clean == service && len(clean) <= maxPrefix && !looksHashed(clean) {
		return clean
	}
	sum := sha256.Sum256([]byte(service))
	clean = strings.TrimRight(clean[:min(len(clean), maxPrefix-hashSize-1)], "-")
	return clean + "-" + hex.EncodeToString(sum[:])[:hashSize]
}

func looksHashed(name string) bool {
	tail := name[strings.LastIndexByte(name, '-')+1:]
	return len(tail) == hashSize && strings.Trim(tail, "0123456789abcdef") == ""
}

// jobOf returns the job of a function id that functionID made for the service.
func jobOf(service, id string) (uint32, bool) {
	rest, ok := strings.CutPrefix(id, servicePrefix(service)+"-job")
	n, err := strconv.ParseUint(rest, 10, 32)
	if !ok || err != nil || functionID(service, uint32(n)) != id {
		return 0, false
	}
	return uint32(n), true
}

// lastSegment returns the id at the end of a resource name.
func lastSegment(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
