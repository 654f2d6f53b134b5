package lambdatest

import (
	"net/http/httptest"
	"testing"
)

func TestBodiesInChunks(t *testing.T) {
	t.Parallel()
	const whole = "3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:hYfYZQ==\r\n\r\n"
	for _, test := range []struct{ name, body, length, trailer, kind, code string }{
		{"whole", whole, "5", "x-amz-checksum-crc32", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", ""},
		{"of another length", whole, "6", "x-amz-checksum-crc32", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "IncompleteBody"},
		{"without the trailer", "0\r\n\r\n", "0", "x-amz-checksum-crc32", "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
			"MalformedTrailerError"},
		{"with an unknown checksum", "0\r\nx-amz-checksum-mine:x\r\n\r\n", "0", "x-amz-checksum-mine",
			"STREAMING-UNSIGNED-PAYLOAD-TRAILER", "InvalidRequest"},
		{"with another checksum", "0\r\nx-amz-checksum-crc32:x\r\n\r\n", "0", "x-amz-checksum-crc32",
			"STREAMING-UNSIGNED-PAYLOAD-TRAILER", "BadDigest"},
		{"cut off", "3\r\nab", "3", "x-amz-checksum-crc32", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "IncompleteBody"},
		{"with a bad size", "-3\r\nabc\r\n0\r\n\r\n", "3", "x-amz-checksum-crc32", "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
			"IncompleteBody"},
		{"of signed chunks", whole, "5", "x-amz-checksum-crc32", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
			"NotImplemented"},
		{"that were not announced", whole, "5", "", "", "InvalidRequest"},
	} {
		r := httptest.NewRequest("PUT", "/b/k", nil)
		for name, value := range map[string]string{
			"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": test.length, "X-Amz-Trailer": test.trailer,
			"X-Amz-Content-Sha256": test.kind,
		} {
			r.Header.Set(name, value)
		}
		body, err := decodeBody(r, []byte(test.body))
		switch {
		case test.code == "" && (err != nil || string(body) != "abcde"):
			t.Errorf("%s: %q, %v", test.name, body, err)
		case test.code != "" && (err == nil || err.code != test.code):
			t.Errorf("%s: %v, want %s", test.name, err, test.code)
		}
	}
}
