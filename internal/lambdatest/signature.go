package lambdatest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// signatureErrors returns the codes for no signature, an unknown key and a wrong signature.
func signatureErrors(service string) (none, unknown, wrong string) {
	switch service {
	case "s3":
		return "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"
	case "iam", "sts":
		return "MissingAuthenticationToken", "InvalidClientTokenId", "SignatureDoesNotMatch"
	}
	return "MissingAuthenticationTokenException", "UnrecognizedClientException", "InvalidSignatureException"
}

// signature is the content of the header Authorization.
type signature struct {
	key    string
	scope  []string // date, region, service, "aws4_request"
	fields map[string]string
}

func parseSignature(r *http.Request) (signature, bool) {
	auth, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	fields := map[string]string{}
	for part := range strings.SplitSeq(auth, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if !ok || len(scope) != 5 || scope[4] != "aws4_request" {
		return signature{}, false
	}
	return signature{scope[0], scope[1:], fields}, true
}

// signedFor returns the service to which a request was sent, which its signature names.
func signedFor(r *http.Request) string {
	if sig, ok := parseSignature(r); ok {
		return sig.scope[2]
	}
	return "lambda"
}

// caller returns who signed a request whose signature was checked.
func (s *Server) caller(r *http.Request) credential {
	sig, _ := parseSignature(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.credentials[sig.key]
}

// How long a signature is valid before and after its date.
const (
	maxSkew   = 5 * time.Minute
	maxSkewS3 = 15 * time.Minute
)

// checkSignature verifies Signature Version 4 by its specification, independently of any SDK.
func (s *Server) checkSignature(r *http.Request, body []byte) *apiError {
	service, region := signedFor(r), s.config.Region
	none, unknown, wrong := signatureErrors(service)
	refuse := func(code, format string, args ...any) *apiError {
		return failf(http.StatusForbidden, code, format, args...)
	}
	bad := func(format string, args ...any) *apiError { return refuse(wrong, format, args...) }
	sig, ok := parseSignature(r)
	if !ok {
		return refuse(none, "Missing Authentication Token")
	}
	who := s.caller(r)
	if who.secret == "" || who.token != r.Header.Get("X-Amz-Security-Token") {
		return refuse(unknown, "The security token included in the request is invalid.")
	}
	if sig.scope[1] != region && service != "iam" && service != "sts" && service != "s3" {
		return bad("Credential should be scoped to a valid region, not '%s'.", sig.scope[1])
	}
	date, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || !strings.HasPrefix(r.Header.Get("X-Amz-Date"), sig.scope[0]) {
		return bad("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")
	}
	switch now := s.now(); {
	case service == "s3" && now.Sub(date).Abs() > maxSkewS3:
		return refuse("RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	case service != "s3" && now.Sub(date) > maxSkew:
		return bad("Signature expired: %s is now earlier than %s", date.Format(time.RFC3339),
			now.Add(-maxSkew).Format(time.RFC3339))
	case service != "s3" && date.Sub(now) > maxSkew:
		return bad("Signature not yet current: %s is still later than %s", date.Format(time.RFC3339),
			now.Add(maxSkew).Format(time.RFC3339))
	}
	fields, scope := sig.fields, sig.scope
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
				value = strconv.FormatInt(r.ContentLength, 10)
			}
		}
		canonical.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	digest := sha256.Sum256(body)
	sum := hex.EncodeToString(digest[:])
	if stated := r.Header.Get("X-Amz-Content-Sha256"); stated != "" {
		if stated != sum && stated != "UNSIGNED-PAYLOAD" && !strings.HasPrefix(stated, "STREAMING-") {
			return failf(http.StatusBadRequest, "XAmzContentSHA256Mismatch",
				"The provided 'x-amz-content-sha256' header does not match what was computed.")
		}
		sum = stated
	}
	canonical.WriteString("\n" + fields["SignedHeaders"] + "\n" + sum)
	hashed := sha256.Sum256([]byte(canonical.String()))
	toSign := "AWS4-HMAC-SHA256\n" + r.Header.Get("X-Amz-Date") + "\n" + strings.Join(scope,
		"/") + "\n" + hex.EncodeToString(hashed[:])
	key := []byte("AWS4" + who.secret)
	for _, part := range scope {
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
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.~", c) >= 0,
			keepSlash && c == '/':
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}
