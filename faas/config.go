package faas

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Config says which provider to open, and for which service. Only the fields that the provider
// needs have to be set.
//
// Options may hold credentials. Printing a Config with any verb, or logging it, shows only their
// names. Its JSON and gob hold the endpoint without user, password and query, and only the
// options that the linked provider does not declare sensitive. They leave out HTTPClient and
// Logger.
type Config struct {
	Provider string `json:"provider"` // registered name, such as "aws-lambda"
	// the service that the executor is bound to; it qualifies the name of every resource
	Service        string `json:"service,omitempty"`
	Region         string `json:"region,omitempty"`          // cloud region; the provider documents its default
	ProjectID      string `json:"project_id,omitempty"`      // Google Cloud project
	SubscriptionID string `json:"subscription_id,omitempty"` // Azure subscription
	Endpoint       string `json:"endpoint,omitempty"`        // base URL of a custom platform
	// Options are the provider's own settings, by the names in its ProviderInfo.Options, each
	// written as its [OptionType] says.
	Options map[string]string `json:"options,omitempty"`

	HTTPClient *http.Client `json:"-"` // nil: the provider's default
	Logger     *slog.Logger `json:"-"` // nil: nothing is logged
}

// Format prints the configuration, with any verb, without the values of its options, which may be
// credentials.
func (c Config) Format(f fmt.State, _ rune) {
	var b strings.Builder
	b.WriteString("{provider:" + c.Provider)
	for _, field := range []struct{ name, value string }{
		{"service", c.Service}, {"region", c.Region}, {"project_id", c.ProjectID}, {"subscription_id", c.SubscriptionID},
	} {
		if field.value != "" {
			b.WriteString(" " + field.name + ":" + field.value)
		}
	}
	if c.Endpoint != "" {
		b.WriteString(" endpoint:" + RedactURL(c.Endpoint))
	}
	if len(c.Options) > 0 {
		b.WriteString(" options:[" + strings.Join(slices.Sorted(maps.Keys(c.Options)), " ") + "]")
	}
	b.WriteByte('}')
	io.WriteString(f, b.String())
}

// kept returns the configuration without what must not be written down.
func (c Config) kept() Config {
	c.HTTPClient, c.Logger = nil, nil
	c.Endpoint, c.Options = RedactURL(c.Endpoint), PublicOptions(c)
	return c
}

// MarshalJSON leaves out everything that may be a credential. See [Config].
func (c Config) MarshalJSON() ([]byte, error) {
	type plain Config // without this method
	return json.Marshal(plain(c.kept()))
}

// GobEncode leaves out everything that may be a credential. See [Config].
func (c Config) GobEncode() ([]byte, error) { return c.MarshalJSON() }

// GobDecode reads what GobEncode wrote.
func (c *Config) GobDecode(text []byte) error { return json.Unmarshal(text, c) }

// LogValue returns the same text as Format, for structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// RedactURL returns a URL that is safe to print: without user name, password, query and fragment.
// It shows nothing of a text that is neither a URL with a host nor an absolute path, since a
// password may be anywhere in it. The empty string stays empty.
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
