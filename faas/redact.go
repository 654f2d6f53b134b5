package faas

import (
	"net/url"
	"strings"
)

// RedactURL returns a URL that is safe to print: without user name and password, query and fragment. Of text that is neither a URL with a host nor an absolute
// path it shows nothing, as a password may be anywhere in it. The empty string stays empty.
func RedactURL(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return ""
	case err == nil && u.Host != "", err == nil && u.Scheme == "" && strings.HasPrefix(u.Path, "/"):
		return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
	}
	return "(not a URL with a host)"
}
