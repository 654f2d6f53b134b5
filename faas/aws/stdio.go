//go:build !faas_only || faas_aws

package aws

import (
	_ "embed"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

//go:embed bootstrap.sh
var bootstrapScript string

// stdioBootstrap returns the bootstrap of a package whose program speaks only stdin and stdout. It
// answers probes itself.
func stdioBootstrap() []byte {
	return []byte(strings.NewReplacer("@WARM@", faas.WarmRequest, "@WARMED@", faas.WarmResponse).Replace(bootstrapScript))
}
