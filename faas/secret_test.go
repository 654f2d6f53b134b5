package faas

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// A new field that holds a secret cannot show it, exported or not, with any way of printing the
// value around it.
func TestASecretShowsItselfNowhere(t *testing.T) {
	const canary = "canary-5f3a"
	type holder struct {
		Shown   Secret
		hidden  Secret
		Env     Env
		env     Env
		nested  []Function
		pointer *Secret
	}
	s := NewSecret(canary)
	h := holder{s, s, Env{"A": s}, Env{"B": s}, []Function{{Env: Env{"C": s}}}, &s}
	for _, value := range []any{s, &s, h, &h, h.Env, h.nested[0], h.nested, Unit{Functions: h.nested},
		struct{ unit Unit }{Unit{Functions: h.nested}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v"} {
			if text := fmt.Sprintf(verb, value, value); shows(text, canary) {
				t.Errorf("%s of a %T shows the value: %s", verb, value, text)
			}
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "value", value)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "value", value)
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var encoded bytes.Buffer
		_ = gob.NewEncoder(&encoded).Encode(value) // a type that gob refuses shows nothing either
		if all := log.String() + string(text) + encoded.String(); shows(all, canary) {
			t.Errorf("a log, the JSON or the gob of a %T shows the value: %s", value, all)
		}
	}
	if s.Reveal() != canary || (Secret{}).Reveal() != "" {
		t.Error("a secret does not reveal what it was made of")
	}
}

// shows reports whether the text holds the value as it is or in hexadecimal.
func shows(text, value string) bool {
	return strings.Contains(text, value) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", value))
}
