package faas

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Config says which provider to open, and for which service. Only the fields that a provider needs have to be set.
//
// Options may hold credentials. Printing a Config, with whatever verb, or logging it shows their names alone. Its JSON is complete, so that it can be read
// back: where that is written is the caller's decision, and nothing in this module writes it.
type Config struct {
	Provider       string `json:"provider"`                  // registered name, such as "aws-lambda"
	Service        string `json:"service,omitempty"`         // the service the executor is bound to; it qualifies the name of every resource
	Region         string `json:"region,omitempty"`          // cloud region; the provider documents its default
	ProjectID      string `json:"project_id,omitempty"`      // Google Cloud project
	SubscriptionID string `json:"subscription_id,omitempty"` // Azure subscription
	Endpoint       string `json:"endpoint,omitempty"`        // base URL of a custom platform
	// Options are the provider's own settings, by the names in its ProviderInfo.Options. Lists are separated by commas.
	Options map[string]string `json:"options,omitempty"`

	HTTPClient *http.Client `json:"-"` // nil: the provider's default
	Logger     *slog.Logger `json:"-"` // nil: nothing is logged
}

// Format prints the configuration without the values of its options, which may be credentials, whatever the verb.
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

// LogValue is what a structured log shows: the same as Format.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }
