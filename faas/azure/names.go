//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// names holds the names of a service's resources.
type names struct {
	app       string // globally unique; also the ID of the service's only unit
	group     string
	plan      string
	account   string // globally unique
	container string
}

// deriveNames returns names that are valid, the same on every machine, and different for different
// services, subscriptions and regions. The app's name has at most 32 characters, because the
// Functions host tells apps that share a storage account apart only by these.
func deriveNames(service, subscription, region string, o options) names {
	sum := sha256.Sum256([]byte(strings.ToLower(subscription) + "\x00" + region + "\x00" + service))
	hash := hex.EncodeToString(sum[:])
	base := "bp-" + hash[:12]
	if slug := slugOf(service); slug != "" {
		base = "bp-" + slug + "-" + hash[:12]
	}
	return names{
		app:       cmp.Or(o.appName, base),
		group:     cmp.Or(o.resourceGroup, base+"-rg"),
		plan:      base + "-plan",
		account:   cmp.Or(o.storageAccount, "bp"+hash[:22]),
		container: base,
	}
}

// slugOf returns the part of a service's name that can be in a resource's name: at most 16
// characters of a-z and 0-9, with single hyphens between them.
func slugOf(service string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(service) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	slug := b.String()
	return strings.TrimRight(slug[:min(len(slug), 16)], "-")
}

// Tags. Those of the app record what is deployed. Converge writes package and fingerprint last, so
// that an interrupted deployment can be recognized.
const (
	tagPrefix      = "blueprint:"
	tagManaged     = tagPrefix + "managed-by"
	tagService     = tagPrefix + "service"
	tagJobs        = tagPrefix + "jobs"        // job ids and their timeouts, see formatJobs
	tagPackage     = tagPrefix + "package"     // hex SHA-256 of the package that answers
	tagFingerprint = tagPrefix + "fingerprint" // of the unit that answers
	tagOptions     = tagPrefix + "options"     // options.digest
	tagPayload     = tagPrefix + "payload"     // payloads.Mark of the package, if its functions take the compact form
	// the package that was published last, even if the rest of a deployment is not done
	tagPublished = tagPrefix + "published"
	tagDeployed  = tagPrefix + "deployed-at"
	tagAuth      = tagPrefix + "storage-auth" // authIdentity or authKey, once the app can reach its storage
	// how the package can be read back: accessToken, accessKey, or accessNone and why not
	tagAccess = tagPrefix + "package-access"

	managedBy   = "blueprint-serverless"
	maxTagValue = 256
)

func serviceTag(service string) string {
	return kit.ServiceTag(service, maxTagValue, func(name string) bool {
		return utf8.ValidString(name) && !strings.HasPrefix(name, "sha256:")
	})
}

// ownerTags returns the tags that name the owner of a resource.
func (e *Executor) ownerTags() map[string]string {
	return map[string]string{tagManaged: managedBy, tagService: serviceTag(e.service)}
}

// owns reports whether the tags are those of a resource of this service.
func (e *Executor) owns(tags map[string]string) bool {
	return tags[tagManaged] == managedBy && tags[tagService] == serviceTag(e.service)
}
