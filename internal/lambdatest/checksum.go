package lambdatest

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// checksums holds the checksums that S3 accepts, by the end of the name of their header or trailer.
var checksums = map[string]func() hash.Hash{
	"crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"crc32c":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"crc64nvme": func() hash.Hash { return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) },
	"sha1":      sha1.New,
	"sha256":    sha256.New,
}

const checksumHeader = "x-amz-checksum-"

func hasChecksum(h http.Header) bool {
	if h.Get("Content-Md5") != "" || h.Get("X-Amz-Trailer") != "" {
		return true
	}
	for name := range checksums {
		if h.Get(checksumHeader+name) != "" {
			return true
		}
	}
	return false
}

// decodeBody removes the chunks from the body of a request to S3, and checks it against the
// checksums in its headers and its trailer.
func decodeBody(r *http.Request, body []byte) ([]byte, *apiError) {
	stated := map[string]string{}
	for name := range checksums {
		if value := r.Header.Get(checksumHeader + name); value != "" {
			stated[name] = value
		}
	}
	content := r.Header.Get("X-Amz-Content-Sha256")
	chunked := slices.Contains(strings.Split(r.Header.Get("Content-Encoding"), ","), "aws-chunked")
	switch {
	case content == "":
		return nil, failf(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
	case content == "STREAMING-UNSIGNED-PAYLOAD-TRAILER" && chunked:
		var trailer map[string]string
		var err *apiError
		if body, trailer, err = dechunk(body); err != nil {
			return nil, err
		}
		if r.Header.Get("X-Amz-Decoded-Content-Length") != strconv.Itoa(len(body)) {
			return nil, failf(400, "IncompleteBody",
				"You did not provide the number of bytes specified by the Content-Length HTTP header.")
		}
		name := strings.ToLower(r.Header.Get("X-Amz-Trailer"))
		if trailer[name] == "" {
			return nil, failf(400, "MalformedTrailerError",
				"The request contained trailing data that was not well-formed or did not conform to our published schema.")
		}
		stated[strings.TrimPrefix(name, checksumHeader)] = trailer[name]
	case strings.HasPrefix(content, "STREAMING-") || chunked:
		return nil, failf(501, "NotImplemented", "a body of kind %s is not known here", content)
	}
	if value := r.Header.Get("Content-Md5"); value != "" {
		if sum := md5.Sum(body); value != base64.StdEncoding.EncodeToString(sum[:]) {
			return nil, failf(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
		}
	}
	if r.Header.Get("X-Amz-Sdk-Checksum-Algorithm") != "" && len(stated) == 0 {
		return nil, failf(400, "InvalidRequest",
			"x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
	}
	for name, value := range stated {
		make := checksums[name]
		if make == nil {
			return nil, failf(400, "InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
		}
		h := make()
		h.Write(body)
		if value != base64.StdEncoding.EncodeToString(h.Sum(nil)) {
			return nil, failf(400, "BadDigest", "The %s you specified did not match the calculated checksum.",
				strings.ToUpper(name))
		}
	}
	return body, nil
}

// dechunk reads a body of the content encoding aws-chunked with unsigned chunks.
func dechunk(body []byte) (data []byte, trailer map[string]string, _ *apiError) {
	incomplete := failf(400, "IncompleteBody", "The request body terminated unexpectedly")
	for {
		line, rest, ok := bytes.Cut(body, []byte("\r\n"))
		n, err := strconv.ParseUint(string(line), 16, 31)
		if !ok || err != nil {
			return nil, nil, incomplete
		}
		if body = rest; n == 0 {
			break
		}
		if len(body) < int(n)+2 || !bytes.HasPrefix(body[n:], []byte("\r\n")) {
			return nil, nil, incomplete
		}
		data, body = append(data, body[:n]...), body[n+2:]
	}
	trailer = map[string]string{}
	for line := range bytes.SplitSeq(bytes.TrimSpace(body), []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		trailer[strings.ToLower(string(name))] = string(bytes.TrimSpace(value))
	}
	return data, trailer, nil
}
