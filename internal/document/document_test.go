package document_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
	"github.com/tangle-network/blueprint-serverless/internal/document"
)

func parse(t testing.TB, text string) *document.Document {
	t.Helper()
	d, err := document.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return d
}

func TestParseTellsTheFormats(t *testing.T) {
	for text, want := range map[string]document.Format{
		`{}`: document.JSON, ` [1]`: document.JSON, `null`: document.JSON, `"a"`: document.JSON, `12`: document.JSON,
		`[a]`: document.TOML, `"a" = 1`: document.TOML, `# c`: document.TOML, `null = 1`: document.TOML,
		`[[a]]`: document.TOML,
	} {
		if got := parse(t, text).Format; got != want {
			t.Errorf("%q is taken for %s", text, got)
		}
	}
}

// Rewriting relies on the positions in the tree alone.
func TestTOMLValuesStandWhereTheySay(t *testing.T) {
	const text = "a.\"b\\u0063\" = [ 1, # ]\n '}' ] # c\r\n d = { e = 'x', f.g = 1979-05-27 07:32:00 }\n" +
		"[t . 'u'] # [v]\nw = \"\"\"\n\\\"\"\"\"\"\"\nx = '''a''''\n[[l]]\ny=1_0\n[[l]]\ny = -inf\n"
	d := parse(t, text)
	for path, want := range map[string]string{
		"a/bc": "[ 1, # ]\n '}' ]", "d": "{ e = 'x', f.g = 1979-05-27 07:32:00 }", "d/e": "'x'",
		"d/f/g": "1979-05-27 07:32:00",
		"t/u/w": "\"\"\"\n\\\"\"\"\"\"\"", "t/u/x": "'''a''''", "t/u": "", "l": "",
	} {
		v := d.Root
		for name := range strings.SplitSeq(path, "/") {
			if v = v.Get(name); v == nil {
				t.Fatalf("no %s", path)
			}
		}
		if got := string(d.Raw(v)); got != want {
			t.Errorf("%s stands at %q, want %q", path, got, want)
		}
	}
	want := `{"a":{"bc":[1,"}"]},"d":{"e":"x","f":{"g":"1979-05-27T07:32:00"}},"t":{"u":{"w":"\"\"\"","x":"a'"}},` +
		`"l":[{"y":10},{"y":"-Inf"}]}`
	if diff := cmp.Diff(want, d.Root.JSON()); diff != "" {
		t.Errorf("JSON differs (-want +got):\n%s", diff)
	}
}

func TestPositionCountsLinesAndCharacters(t *testing.T) {
	src := []byte("ä\r\nöx\n")
	for offset, want := range map[int][2]int{-1: {1, 1}, 0: {1, 1}, 2: {1, 2}, 4: {2, 1}, 6: {2, 2}, 8: {3, 1},
		99: {3, 1}} {
		if line, column := document.Position(src, offset); line != want[0] || column != want[1] {
			t.Errorf("Position(%d) = %d, %d, want %v", offset, line, column, want)
		}
	}
}

func FuzzParseAgreesWithEncodingJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-0.5e+7,"\ud83d\ude00\u0000\/"],"b":{"c":null,"d":true}}`, `"\ud800\ud800\udc00"`, `[1,]`, `{"a":1,}`, `-`,
		`01`, `1.`, `1e`, "\"\x7f\"", `{"a"}`, `tru`, `[[[]`, "a = 1\n",
		"[a.b]\nc = [{d=1},{}]\n", "a.b=1\n[[c]]\n\"\"=''\n", "a = '''\n'''\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var d *document.Document
		var err error
		if cost := alloctest.Roughly(func() { d, err = document.Parse(text) }); cost > 300*uint64(len(text))+1<<20+
			alloctest.Slack {
			t.Fatalf("%d bytes were allocated for %d", cost, len(text))
		}
		if err != nil {
			var syntax *document.SyntaxError
			if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(text) || syntax.Msg == "" {
				t.Fatalf("%q: %#v", text, err)
			}
			if json.Valid(text) && utf8.Valid(text) && !strings.Contains(syntax.Msg, "levels deep") {
				t.Fatalf("%q is JSON: %v", text, err)
			}
			return
		}
		if isJSON := d.Format == document.JSON; isJSON != json.Valid(text) {
			t.Fatalf("%q is taken for %s", text, d.Format)
		}
		if !json.Valid([]byte(d.Root.JSON())) {
			t.Fatalf("%q becomes %q", text, d.Root.JSON())
		}
		if d.Format == document.JSON {
			var want, got any
			wantErr, gotErr := json.Unmarshal(text, &want), json.Unmarshal([]byte(d.Root.JSON()), &got)
			if wantErr == nil && (gotErr != nil || !reflect.DeepEqual(want, got)) {
				t.Fatalf("%q becomes %q", text, d.Root.JSON())
			}
		}
	})
}
