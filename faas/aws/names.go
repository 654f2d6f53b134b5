//go:build !faas_only || faas_aws

package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
)

// Names of functions are "blueprint-SERVICE-JOB". Cutting at the last hyphen gives service and job back, so no two services share a name.
const (
	namePrefix  = "blueprint-"
	maxName     = 64 // of a function; an IAM role has the same
	maxJobWidth = 10 // digits of the largest job id
)

var (
	namePattern    = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,64}$`)
	foreignInNames = regexp.MustCompile(`[^a-zA-Z0-9-_]+`)
)

// nameStem is what the names of a service's functions have in common, the last hyphen included. A service whose name does not fit is
// cut to fit and told apart by a hash.
func nameStem(service string) string {
	clean := foreignInNames.ReplaceAllString(service, "-")
	room := maxName - len(namePrefix) - len("-") - maxJobWidth
	if clean != service || len(clean) > room {
		sum := sha256.Sum256([]byte(service))
		suffix := "-" + hex.EncodeToString(sum[:5])
		if len(clean) > room-len(suffix) {
			clean = clean[:room-len(suffix)]
		}
		clean += suffix
	}
	return namePrefix + clean + "-"
}

func functionName(service string, jobID uint32) string {
	return nameStem(service) + strconv.FormatUint(uint64(jobID), 10)
}

// jobOfName returns the job of a function of the service, and whether the name is one that functionName gives.
func jobOfName(service, name string) (uint32, bool) {
	digits, ok := strings.CutPrefix(name, nameStem(service))
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || strconv.FormatUint(id, 10) != digits {
		return 0, false
	}
	return uint32(id), true
}
