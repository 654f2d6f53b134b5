package faas

import (
	"strings"
	"testing"
)

func TestRedactURLNeverShowsASecret(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                   "",
		"https://faas.example/api":           "https://faas.example/api",
		"https://u:secret@faas.example:8443": "https://faas.example:8443",
		"https://faas.example/a%2Fb?key=secret#secret": "https://faas.example/a%2Fb",
		"//u:secret@faas.example/x":                    "//faas.example/x",
		"/api/functions/x?key=secret":                  "/api/functions/x",
		"u:secret@faas.example":                        "(not a URL with a host)",
		"secret@faas.example/x":                        "(not a URL with a host)",
		"https://u:sec ret@faas.example":               "(not a URL with a host)",
		"https:u:secret@faas.example":                  "(not a URL with a host)",
		"https://faas.example/%zz?secret":              "(not a URL with a host)",
	} {
		if got := RedactURL(raw); got != want || strings.Contains(got, "secret") {
			t.Errorf("RedactURL(%q) = %q, want %q", raw, got, want)
		}
	}
}
