package lambdatest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// checkSignature verifies Signature Version 4 as its specification has it, independently of any SDK.
func checkSignature(r *http.Request, body []byte, service, region string) *apiError {
	bad := func(format string, args ...any) *apiError {
		return failf(http.StatusForbidden, "InvalidSignatureException", format, args...)
	}
	auth, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return failf(http.StatusForbidden, "MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(auth, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" {
		return bad("malformed credential scope")
	}
	if scope[0] != accessKey {
		return failf(http.StatusForbidden, "UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if scope[3] != service || (service != "iam" && service != "sts" && scope[2] != region) {
		return bad("Credential should be scoped to region %s and service %s, not %s and %s", region, service, scope[2], scope[3])
	}
	signed := strings.Split(fields["SignedHeaders"], ";")
	if !slices.Contains(signed, "host") {
		return bad("the Host header is not signed")
	}
	var canonical strings.Builder
	canonical.WriteString(r.Method + "\n")
	path := r.URL.EscapedPath()
	if service != "s3" {
		path = escape(path, true)
	}
	canonical.WriteString(path + "\n" + canonicalQuery(r.URL.Query()) + "\n")
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = r.Header.Get(name)
			if value == "" {
				value = itoa(r.ContentLength)
			}
		}
		canonical.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	digest := sha256.Sum256(body)
	sum := hex.EncodeToString(digest[:])
	if stated := r.Header.Get("X-Amz-Content-Sha256"); stated != "" {
		if stated != sum && stated != "UNSIGNED-PAYLOAD" && !strings.HasPrefix(stated, "STREAMING-") {
			return failf(http.StatusBadRequest, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
		}
		sum = stated
	}
	canonical.WriteString("\n" + fields["SignedHeaders"] + "\n" + sum)
	hashed := sha256.Sum256([]byte(canonical.String()))
	toSign := "AWS4-HMAC-SHA256\n" + r.Header.Get("X-Amz-Date") + "\n" + strings.Join(scope[1:], "/") + "\n" + hex.EncodeToString(hashed[:])
	key := []byte("AWS4" + secretKey)
	for _, part := range scope[1:] {
		key = mac(key, part)
	}
	if hex.EncodeToString(mac(key, toSign)) != fields["Signature"] {
		return bad("The request signature we calculated does not match the signature you provided.")
	}
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func canonicalQuery(values url.Values) string {
	var pairs []string
	for name, all := range values {
		for _, value := range all {
			pairs = append(pairs, escape(name, false)+"="+escape(value, false))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape escapes everything but RFC 3986's unreserved characters.
func escape(text string, keepSlash bool) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.~", c) >= 0, keepSlash && c == '/':
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}
