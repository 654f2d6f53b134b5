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

// Tags of a function. They are the record of what is live; the alias and the version it points to are what really answers. They are written last,
// so that a Converge that was interrupted is seen as one.
const (
	tagManaged     = tagPrefix + "managed-by"
	tagService     = tagPrefix + "service"
	tagJob         = tagPrefix + "job"
	tagFingerprint = tagPrefix + "fingerprint" // of the unit
	tagPackage     = tagPrefix + "package"     // hex SHA-256 of the live version's zip
	tagVersion     = tagPrefix + "version"     // the live version
	tagOptions     = tagPrefix + "options"     // options.digest
	tagLatest      = tagPrefix + "latest"      // latestDigest of $LATEST as we left it, so that a foreign change is seen
	tagColdStart   = tagPrefix + "cold-start-ms"
	tagKeepWarm    = tagPrefix + "keep-warm" // provisioned concurrency that the alias has or may have
	tagRole        = tagPrefix + "role"      // name and id of the role we created
	tagObject      = tagPrefix + "object"    // bucket/key of the package in S3

	ownTags   = 12 // of those above, all at once
	managedBy = "blueprint-serverless"

	// tagPayload is payloads.Mark of the live version's package, if its function takes the compact form. It
	// is left out, and the published form used, if the option "tags" takes all others that Lambda allows.
	tagPayload = tagPrefix + "payload"
)

// serviceTag is the service's name as a tag value: itself where Lambda takes it, else a hash.
func serviceTag(service string) string {
	if len(service) <= maxTagValue && tagPattern.MatchString(service) && strings.TrimSpace(service) == service {
		return service
	}
	sum := sha256.Sum256([]byte(service))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ownerTags are the tags that say whose a resource is.
func (e *Executor) ownerTags() map[string]string {
	return map[string]string{tagManaged: managedBy, tagService: serviceTag(e.service)}
}

// owns reports whether the tags are those of a resource of this service.
func (e *Executor) owns(tags map[string]string) bool {
	return tags[tagManaged] == managedBy && tags[tagService] == serviceTag(e.service)
}
