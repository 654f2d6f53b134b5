package jsonwalk

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestMembersShowsEveryMemberAsItIsWritten(t *testing.T) {
	text := ` { "a" : 1 , "A":[1,{"b":"]}\""}],"a":"x\"y\\", "\u0061b":{} ,"e": null, "t":true } `
	var got []string
	if err := Members([]byte(text), func(name string, value []byte) error {
		got = append(got, name, string(value))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{"a", "1", "A", `[1,{"b":"]}\""}]`, "a", `"x\"y\\"`, "ab", "{}", "e", "null", "t", "true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestElementsShowsEveryElement(t *testing.T) {
	for text, want := range map[string][]string{
		"[]": nil, " [ ] ": nil, "[1]": {"1"}, `[ -1.5e3 , "a,b" ,[2,[3]], {"a":[]} ,null]`: {
			"-1.5e3", `"a,b"`, "[2,[3]]", `{"a":[]}`, "null"},
	} {
		var got []string
		_ = Elements([]byte(text), func(value []byte) error { got = append(got, string(value)); return nil })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// maxDepth is the maximum nesting of values, which jsontext defines.
const maxDepth = 10000

func TestNestingIsBounded(t *testing.T) {
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if !Valid(nested(maxDepth)) || Valid(nested(maxDepth+1)) || Valid(nested(1<<20)) {
		t.Error("ten thousand levels are the most")
	}
}

// hostileStrings returns starts of JSON texts that tempt a scanner to search the same bytes
// repeatedly.
func hostileStrings(n int) map[string]string {
	return map[string]string{
		"backslashes":                    `"` + strings.Repeat(`\\`, n) + `"`,
		"backslashes that never end":     `"` + strings.Repeat(`\\`, n),
		"quotes":                         `"` + strings.Repeat(`\"`, n) + `"`,
		"backslashes and quotes":         `"` + strings.Repeat(`\\\"`, n) + `"`,
		"line breaks":                    `"` + strings.Repeat(`\n`, n) + `"`,
		"plain":                          `"` + strings.Repeat("ab", n) + `"`,
		"plain, and a backslash at last": `"` + strings.Repeat("ab", n) + `\\"`,
		"a quote that is missing":        strings.Repeat(`"\\`, n),
	}
}

func TestNoByteOfAStringIsLookedAtMoreThanTwice(t *testing.T) {
	for name, text := range hostileStrings(2000) {
		looked := 0
		end := stringEndBy(func(b []byte, c byte) int {
			i := bytes.IndexByte(b, c)
			looked += i + 1
			if i < 0 {
				looked += len(b)
			}
			return i
		}, []byte(text), 0)
		if looked > 2*len(text) {
			t.Errorf("%s: %d bytes were looked at in a text of %d", name, looked, len(text))
		}
		if want := stringEnd([]byte(text), 0); end != want {
			t.Errorf("%s: ends at %d and %d", name, end, want)
		}
	}
}

func TestWalkingAllocatesNothingButNames(t *testing.T) {
	for name, text := range hostileStrings(1 << 16) {
		data := []byte(`{"a":[` + text + `],"b":{"c":` + text + `}}`)
		if allocs := testing.AllocsPerRun(3, func() {
			if !Valid(data) {
				return
			}
			_ = Members(data, func(_ string, value []byte) error {
				if value[0] == '[' {
					return Elements(value, func([]byte) error { return nil })
				}
				return Members(value, func(string, []byte) error { return nil })
			})
		}); allocs > 20 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

// FuzzWalk compares the walk with encoding/json: the parts of valid JSON are valid, and their
// number is the same.
func FuzzWalk(f *testing.F) {
	for _, seed := range []string{`{}`, `[]`, `{"a":[1,"\\",{}],"b":"\""}`, `[[],[[]],"x",1e5]`, ` [ 1 , 2 ] `,
		`{"a":1,"a":2}`} {
		f.Add([]byte(seed))
	}
	for _, seed := range []string{
		``, ` `, `"`, `"\`, `"\"`, `"\u00e9"`, `"\u00g0"`, `"\x"`, `"\ud800"`, `"\udc00\ud800"`, "\"\n\"", `-`, `-0`, `01`,
		`1.`, `.5`, `1e`, `1E+5`,
		`-1.25e-9`, `tru`, `true false`, `[1,]`, `{"a"}`, `{"a":}`, `{1:2}`, `[`, `{"a":1`,
		"\"\xff\"", `nul`, `[1 2]`, `{"a":1 "b":2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		valid := json.Valid(data)
		if got := Valid(data); got != valid && utf8.Valid(data) &&
			bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) < maxDepth {
			t.Errorf("%q is valid: %v, encoding/json says %v", data, got, valid)
		}
		if !valid {
			return
		}
		n := 0
		each := func(value []byte) error {
			n++
			if !json.Valid(value) {
				t.Errorf("%q is a part of %q", value, data)
			}
			return nil
		}
		switch trimmed := Trim(data); trimmed[0] {
		case '[':
			_ = Elements(data, each)
			var want []json.RawMessage
			if json.Unmarshal(data, &want) == nil && len(want) != n {
				t.Errorf("%d elements in %q, want %d", n, data, len(want))
			}
		case '{':
			_ = Members(data, func(_ string, value []byte) error { return each(value) })
			var want map[string]json.RawMessage
			if json.Unmarshal(data, &want) == nil && len(want) > n {
				t.Errorf("%d members in %q, want at least %d", n, data, len(want))
			}
		}
	})
}
