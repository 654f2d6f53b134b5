package kit

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// ServiceTag returns a service's name as the value of a tag: itself if it has at most so many bytes,
// neither begins nor ends with white space, and the provider takes it, else a hash.
func ServiceTag(service string, longest int, takes func(string) bool) string {
	if len(service) <= longest && strings.TrimSpace(service) == service && takes(service) {
		return service
	}
	sum := sha256.Sum256([]byte(service))
	return "sha256:" + hex.EncodeToString(sum[:])
}
