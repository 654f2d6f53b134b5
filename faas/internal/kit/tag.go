package kit

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// ServiceTag returns a service's name as the value of a tag. It is the name itself if the name has
// at most longest bytes, neither begins nor ends with white space, and takes accepts it; otherwise
// it is a hash of the name.
func ServiceTag(service string, longest int, takes func(string) bool) string {
	if len(service) <= longest && strings.TrimSpace(service) == service && takes(service) {
		return service
	}
	sum := sha256.Sum256([]byte(service))
	return "sha256:" + hex.EncodeToString(sum[:])
}
