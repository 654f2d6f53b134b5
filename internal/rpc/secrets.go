package rpc

import (
	"net/url"
	"strings"

	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// longSegment is how long a segment of a path must be to count as a key, which hosted nodes carry
// there.
const longSegment = 16

// cleanerOf returns a cleaner for the secrets of a URL: the user and the password, which are sent
// in the header Authorization, keys in the path, and the values of the query.
func cleanerOf(u *url.URL) *sanitize.Cleaner {
	var secrets []string
	if u.User != nil {
		name := u.User.Username()
		password, _ := u.User.Password()
		secrets = append(secrets, name, password, name+":"+password)
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if len(segment) >= longSegment {
			secrets = append(secrets, segment)
		}
	}
	for _, values := range u.Query() {
		secrets = append(secrets, values...)
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") { // Query drops what is malformed
		_, value, _ := strings.Cut(pair, "=")
		secrets = append(secrets, value)
	}
	return sanitize.NewCleaner(secrets...)
}
