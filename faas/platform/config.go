package platform

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// maxConfigHeader is the longest X-Blueprint-Config header, in bytes.
const maxConfigHeader = 256 << 10

const (
	// maxVariable is the longest NAME=value, with its terminator, that Linux passes to a program:
	// MAX_ARG_STRLEN in execve(2).
	maxVariable = 128 << 10
	// maxEnvironment is far below the total that Linux passes, a quarter of the stack's limit.
	maxEnvironment = 256 << 10
)

// config is the configuration that a function runs with.
type config struct {
	MemoryMB       uint32            `json:"memory_mb"`
	TimeoutSecs    uint32            `json:"timeout_secs"`
	MaxConcurrency uint32            `json:"max_concurrency,omitempty"` // 0: the platform's default
	Env            map[string]string `json:"env_vars,omitempty"`
}

// parseConfig parses an X-Blueprint-Config header. The empty header gives the defaults.
func parseConfig(header string, l *Limits) (config, error) {
	bad := func(format string, args ...any) error {
		return notRunError(faas.ErrInvalidArgument, "deploy", "header X-Blueprint-Config: "+format, args...)
	}
	if len(header) > maxConfigHeader {
		return config{}, bad("%d bytes, the limit is %d", len(header), maxConfigHeader)
	}
	var c config
	if header = strings.TrimSpace(header); header != "" {
		text, err := decodeBase64(header)
		if err != nil {
			return config{}, bad("not base64")
		}
		if err := decodeConfig(text, &c); err != nil {
			return config{}, bad("%w", err)
		}
	}
	setDefault(&c.MemoryMB, DefaultMemoryMB)
	setDefault(&c.TimeoutSecs, min(DefaultTimeoutSecs, l.MaxTimeoutSecs))
	if err := c.check(l); err != nil {
		return config{}, bad("%w", err)
	}
	return c, nil
}

// decodeBase64 accepts both alphabets, with or without padding.
func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	return base64.RawStdEncoding.DecodeString(s)
}

// decodeConfig decodes the JSON strictly: a known member occurs once and has the right type, and a
// number is in its range. Unknown members are ignored, for newer clients. Errors name members,
// never values of the environment.
func decodeConfig(text []byte, c *config) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	members, err := object(dec)
	if err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("there is something after the JSON object")
	}
	for name, into := range map[string]*uint32{"memory_mb": &c.MemoryMB, "timeout_secs": &c.TimeoutSecs,
		"max_concurrency": &c.MaxConcurrency} {
		raw, ok := members[name]
		if !ok || string(raw) == "null" {
			continue
		}
		if err := json.Unmarshal(raw, into); err != nil || *into == 0 {
			return fmt.Errorf("%s must be a whole number from 1 on", name)
		}
	}
	raw, ok := members["env_vars"]
	if !ok || string(raw) == "null" {
		return nil
	}
	vars, err := object(json.NewDecoder(bytes.NewReader(raw)))
	if err != nil {
		return fmt.Errorf("env_vars: %w", err)
	}
	c.Env = make(map[string]string, len(vars))
	for name, raw := range vars {
		var value *string
		if err := json.Unmarshal(raw, &value); err != nil || value == nil {
			return fmt.Errorf("env_vars: the value of %.60q is not a string", name)
		}
		c.Env[name] = *value
	}
	return nil
}

// object decodes one JSON object and refuses duplicate members.
func object(dec *json.Decoder) (map[string]json.RawMessage, error) {
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("not a JSON object")
	}
	members := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, fmt.Errorf("not a JSON object")
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("member %.60q is there twice", name)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, fmt.Errorf("member %.60q is not JSON", name)
		}
		members[name] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("the JSON object does not end")
	}
	return members, nil
}

// excess is the error of a value above a limit.
type excess struct{ error }

func excessf(format string, args ...any) error { return excess{fmt.Errorf(format, args...)} }

// refusalCode returns the code of an error of check for callers that did not send a header. A bad
// header is malformed as a whole.
func refusalCode(err error) faas.Code {
	if errors.As(err, new(excess)) {
		return faas.ErrTooLarge
	}
	return faas.ErrInvalidArgument
}

// check returns an error that names what the platform does not allow.
func (c *config) check(l *Limits) error {
	switch {
	case c.MemoryMB < minMemoryMB:
		return fmt.Errorf("memory_mb is %d, allowed are %d to %d", c.MemoryMB, minMemoryMB, l.MaxMemoryMB)
	case c.MemoryMB > l.MaxMemoryMB:
		return excessf("memory_mb is %d, allowed are %d to %d", c.MemoryMB, minMemoryMB, l.MaxMemoryMB)
	case c.TimeoutSecs < 1:
		return fmt.Errorf("timeout_secs is %d, allowed are 1 to %d", c.TimeoutSecs, l.MaxTimeoutSecs)
	case c.TimeoutSecs > l.MaxTimeoutSecs:
		return excessf("timeout_secs is %d, allowed are 1 to %d", c.TimeoutSecs, l.MaxTimeoutSecs)
	case c.MaxConcurrency > l.MaxConcurrency:
		return excessf("max_concurrency is %d, the limit is %d", c.MaxConcurrency, l.MaxConcurrency)
	}
	total := 0
	for name, value := range c.Env {
		total += len(name) + len(value) + 2
		switch {
		case len(name)+len(value)+2 > maxVariable:
			return excessf("env_vars: %.60q and its value have more than %d bytes, the limit", name, maxVariable-2)
		case !validEnvName(name):
			return fmt.Errorf("env_vars: %.60q is not a name of letters, digits and underscores that begins with no digit", name)
		case name == frame.Env:
			return fmt.Errorf("env_vars: %s is the platform's own", name)
		case strings.ContainsRune(value, 0):
			return fmt.Errorf("env_vars: the value of %s has a NUL byte", name)
		}
	}
	if total > maxEnvironment {
		return excessf("env_vars have %d bytes together, the limit is %d", total, maxEnvironment)
	}
	return nil
}

func validEnvName(name string) bool {
	return name != "" && !(name[0] >= '0' && name[0] <= '9') && !slices.ContainsFunc([]byte(name), func(c byte) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_')
	})
}
