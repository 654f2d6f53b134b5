package sanitize

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"
)

// encodings are the ways in which a text is sent, and repeated by others.
var encodings = map[string]func(string) string{
	"plain": func(s string) string { return s },
	"JSON": func(s string) string {
		text, _ := json.Marshal(s)
		return string(text[1 : len(text)-1])
	},
	"JSON without HTML": func(s string) string {
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(s)
		return b.String()[1 : b.Len()-2] // without quotes and line break
	},
	"JSON in JSON": func(s string) string {
		inner, _ := json.Marshal(s)
		text, _ := json.Marshal(string(inner))
		return string(text[3 : len(text)-3])
	},
	"JSON of ASCII alone": func(s string) string {
		var b strings.Builder
		for _, unit := range utf16.Encode([]rune(s)) {
			if unit < ' ' || unit > '~' || strings.ContainsRune(`"\`, rune(unit)) {
				fmt.Fprintf(&b, `\u%04X`, unit)
			} else {
				b.WriteByte(byte(unit))
			}
		}
		return b.String()
	},
	"JSON with slashes": func(s string) string {
		text, _ := json.Marshal(s)
		return strings.ReplaceAll(string(text[1:len(text)-1]), "/", `\/`)
	},
	"URL query":           url.QueryEscape,
	"URL path":            url.PathEscape,
	"HTML":                html.EscapeString,
	"base64":              func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64 raw":          func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) },
	"base64 URL":          func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) },
	"base64 raw URL":      func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"base64 at 1":         func(s string) string { return base64.StdEncoding.EncodeToString([]byte("u" + s + "end")) },
	"base64 at 2":         func(s string) string { return base64.StdEncoding.EncodeToString([]byte("u:" + s + "end")) },
	"base64 after digits": func(s string) string { return "ab" + base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64 in lines": func(s string) string {
		text := base64.StdEncoding.EncodeToString([]byte(s))
		return text[:len(text)/2] + "\r\n" + text[len(text)/2:]
	},
	"base64 in a URL": func(s string) string { return url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(s))) },
	"JSON in base64": func(s string) string {
		text, _ := json.Marshal(map[string]any{"memory_mb": 128, "env_vars": map[string]string{"A": s}})
		return base64.StdEncoding.EncodeToString(text)
	},
}

// hard are secrets with every character that must be escaped somewhere.
var hard = []string{
	"s3cr3t", "pass word+1/2?=&%<>\"'\\", "line one\nline two\ttab", "schlüssel-日本-😀-\u2028", `{"a":"b"}`,
	`C:\new\table\x41`, "AAAA", "abcd+/==",
	strings.Repeat("long", 500),
}

func TestCleanerHidesSecretsInEveryEncoding(t *testing.T) {
	for name, encode := range encodings {
		for _, secret := range hard {
			text := "before " + encode(secret) + " after"
			got := NewCleaner("another", secret).Clean(text)
			if got != "before (hidden) after" {
				t.Errorf("%s of %.30q: %.60q became %.60q", name, secret, text, got)
			}
		}
	}
}

func TestCleanerHidesWhatIsLeftOfACutSecret(t *testing.T) {
	const secret = "correct-horse/battery+staple"
	for name, encode := range encodings {
		whole := encode(secret)
		for _, end := range []string{"", "...", "…", `"}`, " is not allowed"} {
			cut := whole[:len(whole)*2/3]
			if name == "JSON in base64" {
				cut = whole[:len(whole)-16]
			}
			got := NewCleaner(secret).Clean("got " + cut + end)
			if !strings.HasPrefix(got, "got (hidden)") || strings.Contains(got, "horse") {
				t.Errorf("%s: %q became %q", name, cut+end, got)
			}
		}
	}
}

func TestCleanerLeavesWhatIsNoSecret(t *testing.T) {
	c := NewCleaner("https://user:password@db.example/", "1", "abc", "")
	for _, text := range []string{
		"", "a 1 b abc", "no route to https://faas.example/api", "100% & more \\ a\\", "YWJj",
		"{\"error\":\"a\\u00zz %zz &#x; \\x\"}", "\xff\\", "%4", "&amp", "plain/path-with_digits+of/base64=",
	} {
		if got := c.Clean(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got := new(Cleaner).Clean("anything"); got != "anything" {
		t.Errorf("without secrets: %q", got)
	}
}

func TestCleanerHidesSecretsInEachOther(t *testing.T) {
	for name, c := range map[string]struct {
		secrets    []string
		text, want string
	}{
		"one is the beginning of another": {[]string{"abcd", "abcdefgh"}, "abcdefgh and abcd", "(hidden) and (hidden)"},
		"one is the end of another":       {[]string{"efgh", "abcdefgh"}, "abcdefgh and efgh", "(hidden) and (hidden)"},
		"one is inside another":           {[]string{"cdef", "abcdefgh"}, "abcdefgX and cdef", "ab(hidden)gX and (hidden)"},
		"they overlap":                    {[]string{"abcdef", "efghij"}, "abcdefghij", "(hidden)"},
		"one after the other":             {[]string{"abcd", "efgh"}, "abcdefgh abcd", "(hidden) (hidden)"},
		"one begins inside another":       {[]string{"aaaab-1", "aab-2222"}, "aaaab-2222", "aa(hidden)"},
	} {
		for range 20 { // the order of a map must not matter
			if got := NewCleaner(c.secrets...).Clean(c.text); got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
		}
	}
}

func TestCleanerHidesBeforeItCuts(t *testing.T) {
	const secret = "correct-horse-battery-staple"
	c := NewCleaner(secret)
	for _, got := range []string{c.Line("is "+secret, 10), c.Excerpt([]byte("is " + secret)),
		c.Tail(secret+" was it", 20)} {
		if strings.Contains(got, "correct") || strings.Contains(got, "staple") || !strings.Contains(got, "(hid") &&
			!strings.Contains(got, "dden)") {
			t.Errorf("%q", got)
		}
	}
}

func TestCleanerLearnsWhileItIsUsed(t *testing.T) {
	var c Cleaner
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			secret := fmt.Sprintf("secret-%d-", i)
			c.Add(secret, secret)
			if got := c.Clean("is " + secret); got != "is (hidden)" {
				t.Errorf("%q", got)
			}
		})
	}
	group.Wait()
}

// The cost of a text is bounded by its length. Here texts and secrets make a naive search start
// over again and again.
func TestCleanerCostIsLinear(t *testing.T) {
	steps := func(n int) int {
		secrets := map[string]bool{}
		for i := range 20 {
			secrets[strings.Repeat("a", 1000+i)+"b"] = true
		}
		m, cost := newMachine(secrets), 0
		for v := range views(strings.Repeat(`aa\\a%61`, n/8)) {
			cost += len(v.text)
			m.mark(v, make(marks, n+1))
		}
		return cost
	}
	if small, large := steps(4<<10), steps(64<<10); large > 17*small || large > 40*64<<10 {
		t.Errorf("%d bytes are looked at of 4 KiB, and %d of 64 KiB", small, large)
	}
}

func FuzzCleaner(f *testing.F) {
	f.Add("s3cr3t", "before %73 s3cr3t \\u0073 czNjcjN0 &#115;")
	f.Add("\\\\u00", "\\\\u00\xff")
	f.Fuzz(func(t *testing.T, secret, text string) {
		got := NewCleaner(secret).Clean(text)
		if len(secret) >= shortest && len(text) <= longestText &&
			strings.Contains(strings.ReplaceAll(got, Hidden, ""), secret) && !strings.Contains(Hidden, secret) &&
			strings.Contains(got, secret) {
			t.Errorf("Clean(%q) of %q shows it: %q", text, secret, got)
		}
		for name, encode := range encodings {
			if len(secret) >= shortest && len(secret) < 1000 && strings.ToValidUTF8(secret, "") == secret {
				if got := NewCleaner(secret).Clean("<" + encode(secret) + ">"); got != "<(hidden)>" &&
					!strings.ContainsAny(secret, "<>") {
					t.Errorf("%s of %q is shown: %q", name, secret, got)
				}
			}
		}
	})
}
