package faas

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
)

// Secret is a text that does not show itself: the value of an environment variable or a
// credential. It prints as "(hidden)" with every verb of package fmt, in a structured log, and as
// JSON, text or gob. It holds its text behind a pointer because fmt does not call the methods of
// unexported struct fields: there fmt prints an address instead of the text.
//
// The zero Secret is the empty text. Compare secrets with Equal, not with ==.
type Secret struct{ text *string }

const hidden = "(hidden)"

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Equal reports whether both hold the same text.
func (s Secret) Equal(other Secret) bool { return s.Reveal() == other.Reveal() }

// String returns "(hidden)".
func (Secret) String() string { return hidden }

// GoString returns "(hidden)".
func (Secret) GoString() string { return hidden }

// Format prints "(hidden)" with any verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue is "(hidden)".
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText returns "(hidden)"; JSON and most other encodings use it.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// GobEncode returns "(hidden)".
func (Secret) GobEncode() ([]byte, error) { return []byte(hidden), nil }

// Env is an environment: the values of variables by name. It prints the names, not the values.
type Env map[string]Secret

// NewEnv returns the environment with these values; nil for a nil map.
func NewEnv(values map[string]string) Env {
	if values == nil {
		return nil
	}
	env := make(Env, len(values))
	for name, value := range values {
		env[name] = NewSecret(value)
	}
	return env
}

// Reveal returns the values by name; nil for a nil Env.
func (e Env) Reveal() map[string]string {
	if e == nil {
		return nil
	}
	values := make(map[string]string, len(e))
	for name, value := range e {
		values[name] = value.Reveal()
	}
	return values
}

// Names returns the names of the variables, sorted.
func (e Env) Names() []string { return slices.Sorted(maps.Keys(e)) }

// Values returns the values, in no order, for code that removes them from texts.
func (e Env) Values() []string { return slices.Collect(maps.Values(e.Reveal())) }
