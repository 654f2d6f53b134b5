package document

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

// hostile returns documents of about n bytes that are made to be as expensive as possible.
func hostile(n int) map[string]string {
	docs := map[string]string{}
	add := func(name, before string, piece func(i int) string, after string) {
		var b strings.Builder
		b.WriteString(before)
		for i := 0; b.Len() < n-len(after); i++ {
			b.WriteString(piece(i))
		}
		docs[name] = b.String() + after
	}
	key := func(i int) string { return fmt.Sprintf("k%x", i) }
	same := func(text string) func(int) string { return func(int) string { return text } }
	deep := strings.Repeat(".a", 90)
	add("TOML keys", "", func(i int) string { return key(i) + "=1\n" }, "")
	add("TOML quoted keys", "", func(i int) string { return `"` + key(i) + "\"=1\n" }, "")
	add("TOML tables", "", func(i int) string { return "[" + key(i) + "]\n" }, "")
	add("TOML tables in one", "", func(i int) string { return "[a." + key(i) + "]\n" }, "")
	add("TOML keys in one", "", func(i int) string { return "a." + key(i) + "=1\n" }, "")
	add("TOML keys of many parts", "", func(i int) string { return key(i) + deep + "=1\n" }, "")
	add("TOML keys far below a header", "[a"+deep+"]\n", func(i int) string { return key(i) + "=1\n" }, "")
	add("TOML headers of many parts", "", func(i int) string { return "[" + key(i) + deep + "]\n" }, "")
	add("TOML arrays of tables", "", func(i int) string { return "[[" + key(i) + "]]\n" }, "")
	add("TOML tables in arrays", "", same("[[a]]\n[a.b]\n"), "")
	add("TOML inline table", "a={", func(i int) string { return key(i) + "=1," }, "a=1}\n")
	add("TOML inline tables in each other", "", func(i int) string {
		return key(i) + "=" + strings.Repeat("{a=", 90) + "1" + strings.Repeat("}", 90) + "\n"
	}, "")
	add("TOML array", "a=[", same("1,"), "]\n")
	add("TOML string of backslashes", `a="`, same(`\\`), "\"\n")
	add("TOML key of backslashes", `"`, same(`\\`), "\"=1\n")
	add("TOML quotes", `a="""`, same("\"\"\n"), "\"\"\"\n")
	add("TOML comments", "", same("#\n"), "")
	add("TOML digits", "a=", same("1"), "\n")
	add("spaces", "", same(" "), "")
	add("JSON members", "{", func(i int) string { return `"` + key(i) + `":1,` }, `"a":1}`)
	add("JSON array", `{"a":[`, same("1,"), "1]}")
	add("JSON objects", `{"a":[`, same("{},"), "1]}")
	add("JSON arrays in each other", "[", same(strings.Repeat("[", 90)+strings.Repeat("]", 90)+","), "1]")
	add("JSON backslashes", `{"a":"`, same(`\\`), `"}`)
	add("JSON name of backslashes", `{"`, same(`\\`), `":1}`)
	add("JSON surrogates", `{"a":"`, same(`\ud800`), `"}`)
	return docs
}

func TestMemoryIsBoundedByTheSizeOfADocument(t *testing.T) {
	// bytes per byte of the document: a four-byte member becomes a value of a hundred, in a growing
	// list
	const most = 300
	for _, n := range []int{1 << 10, 32 << 10, 256 << 10} {
		for name, text := range hostile(n) {
			src := []byte(text)
			if cost := alloctest.Bytes(func() { _, _ = Parse(src) }); cost > most*uint64(len(src))+1<<20 {
				t.Errorf("%s: %d bytes were allocated for %d", name, cost, len(src))
			}
		}
	}
}

// The TOML decoder looks each key up among the earlier ones, so their number must be limited.
func TestKeysAndValuesOfTOMLAreBounded(t *testing.T) {
	pairs := func(n int) []byte {
		var b strings.Builder
		b.WriteString("[t]\n")
		for i := range n {
			fmt.Fprintf(&b, "k%d = 1\n", i)
		}
		return []byte(b.String())
	}
	if d, err := Parse(pairs((maxTOML - 1) / 2)); err != nil || len(d.Root.Get("t").Members) != (maxTOML-1)/2 {
		t.Errorf("as many as there may be: %v", err)
	}
	_, err := Parse(pairs(maxTOML/2 + 1))
	if err == nil || !strings.Contains(err.Error(), "more than 4096 keys and values") {
		t.Fatalf("more than there may be: %v", err)
	}
	if line, column := Position(pairs(maxTOML/2+1), err.(*SyntaxError).Offset); line != 2+maxTOML/2-1 || column < 5 {
		t.Errorf("the error is at %d:%d", line, column)
	}
}
