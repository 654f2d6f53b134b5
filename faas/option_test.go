package faas_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func isLower(text string) bool { return text == strings.ToLower(text) }

var oneOfEach = []faas.Option{
	{Name: "text", Valid: isLower, Shape: "in lower case"},
	{Name: "key", Sensitive: true, Valid: isLower, Shape: "in lower case", Env: "FAAS_TEST_KEY"},
	{Name: "choice", Default: "One", Choices: []string{"One", "two"}},
	{Name: "url", Type: faas.OptionURL},
	{Name: "number", Type: faas.OptionNumber, Min: 2, Max: 10, Former: []string{"count"}},
	{Name: "wait_secs", Type: faas.OptionSeconds, Default: "60"},
	{Name: "flag", Type: faas.OptionFlag},
	{Name: "list", Type: faas.OptionList, Max: 3, Valid: isLower, Shape: "in lower case"},
	{Name: "lines", Type: faas.OptionLines, Sensitive: true, Valid: isLower, Shape: "in lower case"},
	{Name: "pairs", Type: faas.OptionPairs, Max: 3, Valid: isLower, Shape: "key=value in lower case"},
	{Name: "zone", Place: true, Env: "FAAS_TEST_ZONE", Default: "z1"},
}

func TestOptionsAreReadByTheirTypes(t *testing.T) {
	nothing := map[string]any{
		"text": "", "key": "", "choice": "One", "url": "", "number": uint32(0), "wait_secs": time.Minute, "flag": false,
		"list": []string(nil), "lines": []string(nil), "pairs": map[string]string(nil), "zone": "z1",
	}
	for _, test := range []struct {
		name, text string
		want       any
	}{
		{"", "", nil},
		{"text", " a b ", "a b"},
		{"text", `["a"]`, `["a"]`},
		{"choice", "TWO", "two"},
		{"choice", "", "One"},
		{"url", "https://a.example/x?y=1", "https://a.example/x?y=1"},
		{"number", " 10 ", uint32(10)},
		{"wait_secs", "5", 5 * time.Second},
		{"flag", "Yes", true},
		{"flag", "off", false},
		{"list", " a , b,,", []string{"a", "b"}},
		{"list", ` ["a,b", " c ", 1.50] `, []string{"a,b", " c ", "1.50"}},
		{"list", "[]", []string(nil)},
		{"lines", "a: b, c\r\n\n d", []string{"a: b, c", "d"}},
		{"lines", `["a","b"]`, []string{"a", "b"}},
		{"pairs", " a = b=c , d=", map[string]string{"a": "b=c", "d": ""}},
		{"pairs", `["a=b,c","d=e"]`, map[string]string{"a": "b,c", "d": "e"}},
		{"pairs", `{"a":"b,c","d=e":true}`, map[string]string{"a": "b,c", "d=e": "true"}},
	} {
		t.Run(test.name+" "+test.text, func(t *testing.T) {
			want := maps.Clone(nothing)
			cfg := faas.Config{Provider: "p"}
			if test.name != "" {
				want[test.name] = test.want
				cfg.Options = map[string]string{test.name: test.text}
			}
			got, err := faas.ParseOptions(cfg, oneOfEach)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestTheEnvironmentCountsBeforeTheDefault(t *testing.T) {
	t.Setenv("FAAS_TEST_KEY", " of-env ")
	t.Setenv("FAAS_TEST_ZONE", "z2")
	for options, want := range map[string][2]string{"": {"of-env", "z2"}, "given": {"given", "given"}} {
		got, err := faas.ParseOptions(faas.Config{Options: map[string]string{"key": options, "zone": options}}, oneOfEach)
		if err != nil || got["key"] != want[0] || got["zone"] != want[1] {
			t.Errorf("%q: %v, %v", options, got, err)
		}
	}
	t.Setenv("FAAS_TEST_KEY", "S3CRET")
	_, err := faas.ParseOptions(faas.Config{Provider: "p"}, oneOfEach)
	if want := `faas: open: p: option "key", from $FAAS_TEST_KEY, must be in lower case`; err == nil ||
		err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"text", "A", `option "text" is "A"; it must be in lower case`},
		{"text", strings.Repeat("A", 99), `option "text" is "` + strings.Repeat("A", 64) + `..."; it must be in lower case`},
		{"key", "S3CRET", `option "key" must be in lower case`},
		{"choice", "three", `option "choice" is "three"; it must be One or two`},
		{"url", "https://u:S3CRET@a.example/x",
			`option "url" is https://a.example/x; it must be an http or https URL without a user name`},
		{"url", "ftp://a.example", `option "url" is ftp://a.example; it must be an http or https URL without a user name`},
		{"url", "S3CRET", `option "url" is (not a URL with a host); it must be an http or https URL without a user name`},
		{"number", "1", `option "number" is "1"; it must be a whole number from 2 to 10`},
		{"number", "4294967298", `option "number" is "4294967298"; it must be a whole number from 2 to 10`},
		{"number", "1e1", `option "number" is "1e1"; it must be a whole number from 2 to 10`},
		{"wait_secs", "5s", `option "wait_secs" is "5s"; it must be a whole number of seconds from 0 to 4294967295`},
		{"flag", "maybe", `option "flag" is "maybe"; it must be true or false`},
		{"list", "a,B", `option "list" has a wrong item: item 2 is "B"; it must be in lower case`},
		{"list", "a,b,c,d", `option "list" has 4 items; it must have at most 3`},
		{"list", `["S3CRET"`, `option "list" begins like a JSON array: it must be valid JSON, of strings alone`},
		{"list", `["a",["b"]]`, `option "list" begins like a JSON array: it must be valid JSON, of strings alone`},
		{"list", `["a",null]`, `option "list" begins like a JSON array: it must be valid JSON, of strings alone`},
		{"list", `["a"] ["b"]`, `option "list" begins like a JSON array: it must be valid JSON, of strings alone`},
		{"lines", "a\nS3CRET", `option "lines" has a wrong item: item 2 must be in lower case`},
		{"pairs", "a=b,S3CRET", `option "pairs" has no = in item 2; it must be key=value in lower case`},
		{"pairs", "a=S3CRET", `option "pairs" has a wrong pair, "a": it must be key=value in lower case`},
		{"pairs", "a=b,a=S3CRET", `option "pairs" has "a" twice`},
		{"pairs", `{"a":"b","a":"S3CRET"}`, `option "pairs" has "a" twice`},
		{"pairs", "=S3CRET", `option "pairs" has a pair without a key, pair 1`},
		{"pairs", "a=1,b=2,c=3,d=4", `option "pairs" has 4 pairs; it must have at most 3`},
		{"pairs", `{"a":{"b":"S3CRET"}}`,
			`option "pairs" begins like a JSON object: it must be valid JSON, of strings alone`},
		{"count", "5", `option "count" is called "number" now`},
		{"list_", "S3CRET", `unknown option "list_": did you mean "list"?`},
		{"location", "S3CRET", `unknown option "location": region is a setting of its own, beside the provider's type`},
		{"other", "S3CRET",
			`unknown option "other" (it has: text, key, choice, url, number, wait_secs, flag, list, lines, pairs, zone)`},
	} {
		t.Run(test.name+" "+test.text, func(t *testing.T) {
			_, err := faas.ParseOptions(faas.Config{Provider: "p", Options: map[string]string{test.name: test.text}}, oneOfEach)
			if want := "faas: open: p: " + test.want; err == nil || err.Error() != want ||
				!errors.Is(err, faas.ErrInvalidArgument) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// Every list and all pairs that are read can be written as JSON and read again, in whatever form
// they were given. No error shows a value.
func FuzzListsAndPairs(f *testing.F) {
	for _, text := range []string{"a,b", "a=b, c=d", `["a,b"]`, `{"a":"b"}`, "[1,true]", `{"a":1,"b":[]}`, "[", "{",
		"a\nb", "=,=", `["a"]x`, "\xff=\xfe"} {
		f.Add(text)
	}
	options := []faas.Option{{Name: "list", Type: faas.OptionList}, {Name: "lines", Type: faas.OptionLines},
		{Name: "pairs", Type: faas.OptionPairs}}
	f.Fuzz(func(t *testing.T, text string) {
		for _, o := range options {
			values, err := faas.ParseOptions(faas.Config{Options: map[string]string{o.Name: text}}, []faas.Option{o})
			if err != nil {
				if faas.CodeOf(err) != faas.ErrInvalidArgument || len(text) > 8 && o.Name != "pairs" &&
					strings.Contains(err.Error(), text) {
					t.Errorf("%v", err)
				}
				continue
			}
			again, err := json.Marshal(values[o.Name])
			if err != nil {
				t.Fatal(err)
			}
			if strings.ToValidUTF8(text, "") != text || string(again) == "null" {
				continue // JSON replaces invalid UTF-8
			}
			reread, err := faas.ParseOptions(faas.Config{Options: map[string]string{o.Name: string(again)}}, []faas.Option{o})
			if diff := cmp.Diff(values, reread); diff != "" || err != nil {
				t.Errorf("%q as %s: %v\n%s", text, again, err, diff)
			}
		}
	})
}

func TestAPlaceIsResolvedFromTheDeclarations(t *testing.T) {
	given := map[string]string{"token": "t"}
	cfg := faas.Config{Provider: "test-echo", Options: given}
	t.Setenv("FAAS_TEST_AREA", " a2 ")
	got := faas.Resolve(cfg)
	if diff := cmp.Diff(map[string]string{"token": "t", "area": "a2"}, got.Options); diff != "" || len(given) != 1 {
		t.Errorf("(-want +got):\n%s, and the caller's is %v", diff, slices.Sorted(maps.Keys(given)))
	}
	t.Setenv("FAAS_TEST_AREA", "a3")
	if diff := cmp.Diff(got, faas.Resolve(got)); diff != "" {
		t.Errorf("it is another one later (-before +after):\n%s", diff)
	}
	t.Setenv("FAAS_TEST_AREA", "")
	t.Setenv("FAAS_TEST_TOKEN", "is no place")
	if diff := cmp.Diff(map[string]string{"area": "a1"},
		faas.Resolve(faas.Config{Provider: "test-echo"}).Options); diff != "" {
		t.Errorf("without the variable (-want +got):\n%s", diff)
	}
}
