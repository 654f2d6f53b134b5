package tangle

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// shortestSecret is the minimum length, in bytes, of a secret that is removed from foreign texts:
// shorter ones are parts of words.
const shortestSecret = 4

// longSegment is the minimum length of a path segment that counts as a key. Hosted nodes have keys
// there.
const longSegment = 16

// secrets returns what must not be printed of a URL, in all forms in which it is sent: user and
// password in the Authorization header, keys in the path and the query.
func secrets(u *url.URL) []string {
	var found []string
	if u.User != nil {
		name := u.User.Username()
		password, _ := u.User.Password()
		found = append(found, name, password, u.User.String())
		credentials := []byte(name + ":" + password)
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			text := encoding.EncodeToString(credentials)
			found = append(found, text, strings.TrimRight(text, "="))
		}
	}
	for _, path := range []string{u.Path, u.EscapedPath()} {
		for _, part := range strings.Split(path, "/") {
			if len(part) >= longSegment {
				found = append(found, part)
			}
		}
	}
	for _, values := range u.Query() {
		found = append(found, values...)
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		_, value, _ := strings.Cut(pair, "=")
		found = append(found, value)
	}
	return found
}

// hider returns a replacer that removes secrets from a text, plain or as written in URLs and in
// JSON. The longest come first: if a shorter secret that is part of it were removed first, the
// rest would stay readable.
func hider(secrets []string) *strings.Replacer {
	var forms []string
	for _, secret := range secrets {
		if len(secret) < shortestSecret {
			continue
		}
		user := strings.TrimSuffix(url.UserPassword(secret, "").String(), ":")
		for _, text := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), user} {
			for _, form := range []string{text, lowerEscapes(text)} {
				forms = append(forms, quoted(form)...)
			}
		}
	}
	slices.SortFunc(forms, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	var pairs []string
	for _, form := range slices.Compact(forms) {
		pairs = append(pairs, form, "***")
	}
	return strings.NewReplacer(pairs...)
}

// quoted returns the forms of a text in JSON strings: the plain one, and those of encoders in
// several languages.
func quoted(text string) []string {
	q, err := json.Marshal(text)
	if err != nil {
		return []string{text} // unreachable: every string can be encoded
	}
	html := string(q[1 : len(q)-1])
	plain := strings.NewReplacer(`\u0026`, "&", `\u003c`, "<", `\u003e`, ">").Replace(html)
	var ascii strings.Builder
	for _, r := range plain {
		switch {
		case r < utf8.RuneSelf:
			ascii.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&ascii, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&ascii, `\u%04x\u%04x`, high, low)
		}
	}
	forms := []string{text, html, plain, ascii.String()}
	for _, form := range forms[2:] {
		forms = append(forms, strings.ReplaceAll(form, "/", `\/`)) // the form of PHP
	}
	return forms
}

// lowerEscapes returns the text with the percent escapes of URLs in lower case.
func lowerEscapes(text string) string {
	b := []byte(text)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], strings.ToLower(string(b[i+1:i+3])))
		}
	}
	return string(b)
}
