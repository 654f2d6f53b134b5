package profiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/tangle-network/blueprint-serverless/internal/jsonwalk"
)

// checkJSON returns an error unless data is one JSON object in valid UTF-8 of at most limit bytes.
// The functions below rely on it.
func checkJSON(data []byte, limit int) error {
	switch {
	case len(data) > limit:
		return fmt.Errorf("the JSON is %d bytes long, more than the limit of %d", len(data), limit)
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return errors.New("the JSON begins with a byte order mark, which has to be removed")
	case !utf8.Valid(data):
		return errors.New("the JSON is not valid UTF-8")
	}
	if !json.Valid(data) {
		var v json.RawMessage
		err := json.Unmarshal(data, &v) // only for its text, which says where
		if err == nil {
			err = errors.New("malformed")
		}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return fmt.Errorf("not JSON: %w (at byte %d of %d)", err, syntax.Offset, len(data))
		}
		return fmt.Errorf("not JSON: %w", err)
	}
	if jsonwalk.Kind(jsonwalk.Trim(data)) != "an object" {
		return fmt.Errorf("the JSON is %s, not an object", jsonwalk.Kind(jsonwalk.Trim(data)))
	}
	return nil
}

func readString(raw []byte) (string, error) {
	if jsonwalk.Kind(raw) != "a string" {
		return "", fmt.Errorf("is %s, not a string", jsonwalk.Kind(raw))
	}
	return jsonwalk.Unquote(raw), nil
}

func readBool(raw []byte) (bool, error) {
	switch string(raw) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("is %s, not a boolean", jsonwalk.Kind(raw))
}

// readUint decodes an integer of at most bits bits. Like the existing readers it accepts no sign,
// fraction or exponent.
func readUint(raw []byte, bits int) (uint64, error) {
	n, err := strconv.ParseUint(string(raw[:min(len(raw), 32)]), 10, bits)
	if err != nil {
		if jsonwalk.Kind(raw) != "a number" {
			return 0, fmt.Errorf("is %s, not a number", jsonwalk.Kind(raw))
		}
		return 0, fmt.Errorf("is %s, not an integer between 0 and %d", clip(string(raw[:min(len(raw), 64)])),
			^uint64(0)>>(64-bits))
	}
	return n, nil
}

func readUint32(raw []byte) (uint32, error) {
	n, err := readUint(raw, 32)
	return uint32(n), err
}

// clip shortens untrusted text for a message.
func clip(s string) string {
	const limit = 40
	if len(s) <= limit {
		return s
	}
	for n := limit; ; n-- {
		if utf8.RuneStart(s[n]) {
			return s[:n] + "..."
		}
	}
}
