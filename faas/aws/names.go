//go:build !faas_only || faas_aws

package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
)

// Names of functions are "blueprint-SERVICE-JOB". The last hyphen separates service and job, so no
// two services share a name.
const (
	namePrefix  = "blueprint-"
	maxName     = 64 // of a function; an IAM role has the same
	maxJobWidth = 10 // digits of the largest job id
)

var (
	namePattern    = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,64}$`)
	foreignInNames = regexp.MustCompile(`[^a-zA-Z0-9-_]+`)
)

// nameStem is the common prefix of the names of a service's functions, including the last hyphen.
// If the service's name does not fit, it is cut and a hash tells it apart.
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

// jobOfName returns the job of one of the service's functions, and whether functionName gives that
// name.
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
