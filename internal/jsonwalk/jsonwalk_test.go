package jsonwalk

import (
	"encoding/json"
	"testing"

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
		"[]": nil, " [ ] ": nil, "[1]": {"1"}, `[ -1.5e3 , "a,b" ,[2,[3]], {"a":[]} ,null]`: {"-1.5e3", `"a,b"`, "[2,[3]]", `{"a":[]}`, "null"},
	} {
		var got []string
		_ = Elements([]byte(text), func(value []byte) error { got = append(got, string(value)); return nil })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// FuzzWalk holds the walk to encoding/json: the parts of valid JSON are valid JSON, and as many.
func FuzzWalk(f *testing.F) {
	for _, seed := range []string{`{}`, `[]`, `{"a":[1,"\\",{}],"b":"\""}`, `[[],[[]],"x",1e5]`, ` [ 1 , 2 ] `, `{"a":1,"a":2}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) {
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
