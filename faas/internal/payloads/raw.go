package payloads

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// The raw form of HTTP. A request is a POST to where one in the published form goes, with the
// arguments as its body and the header
//
//	Content-Type: application/octet-stream; blueprint=1; job=7; size=3; first=42
//
// where size is how many bytes there are, and first the first of them (left out if there are none).
// In the body a NUL stands in the first one's place. So nothing that does not know the form can
// take the arguments for a request of the published form, which they may look like: it refuses a
// body that is no JSON, as it does one that has lost the parameters on its way.
//
// The answer of a job that succeeded is a status 200 with the output as its body and the header
//
//	Content-Type: application/octet-stream; blueprint=1; job=7; size=5; execution_ms=1.250;
//	  memory_mb=12
//
// without what is not known. Every other answer is that of the published form. The sizes tell if
// something on the way has cut or changed a body. The parameters are in the one header that
// everything between the two passes on.
const (
	contentType = "Content-Type"
	rawType     = "application/octet-stream"
	version     = "blueprint=1"

	// FeaturesHeader is in the answers of a platform that announces there what it has beyond the
	// protocol, separated by commas.
	FeaturesHeader = "X-Blueprint-Features"
	// FeatureRaw is the feature that is the raw form.
	FeatureRaw = "raw"

	// maxHeader bounds the headers above, in bytes.
	maxHeader = 256
)

// Values of headers, which are shared and never written to.
var (
	identity    = []string{"identity"}
	noTransform = []string{"no-store, no-transform"}
)

// Call is what the header of a request says.
type Call struct {
	JobID uint32
	Size  int64 // of the arguments, in bytes
	First byte  // of them
}

// IsCall reports whether a request is in the raw form.
func IsCall(h http.Header) bool { return isRaw(h[contentType]) }

func isRaw(values []string) bool {
	return len(values) > 0 && strings.Contains(values[0], "blueprint=")
}

// Announced reports whether an answer announces that its platform takes the raw form.
func Announced(h http.Header) bool {
	for _, list := range h[FeaturesHeader] {
		for name := range strings.SplitSeq(list, ",") {
			if strings.TrimSpace(name) == FeatureRaw {
				return true
			}
		}
	}
	return false
}

// CallHeaders returns the headers of a request in the raw form.
func CallHeaders(jobID uint32, args []byte) http.Header {
	call := appendField(make([]byte, 0, maxHeader/2), rawType+"; "+version+"; job=", uint64(jobID))
	call = appendField(call, "; size=", uint64(len(args)))
	if len(args) > 0 {
		call = appendField(call, "; first=", uint64(args[0]))
	}
	return http.Header{
		contentType: {string(call)},
		// Nobody is to compress the answer, and nothing may be taken for it that is compressed.
		"Accept-Encoding": identity,
	}
}

func appendField(dst []byte, name string, n uint64) []byte {
	return strconv.AppendUint(append(dst, name...), n, 10)
}

// ParseCall reads the header of a request in the raw form.
func ParseCall(h http.Header) (Call, error) {
	fields, err := parseFields(h[contentType], "job", "size", "first")
	var job, size, first int64
	if err == nil {
		job, err = fields[0].whole(math.MaxUint32)
	}
	if err == nil {
		size, err = fields[1].whole(math.MaxInt64)
	}
	if err == nil && size > 0 {
		first, err = fields[2].whole(math.MaxUint8)
	}
	if err == nil && size == 0 && fields[2].there {
		err = errors.New("there is a first of no bytes")
	}
	if err != nil {
		return Call{}, bad("header %s: %w", contentType, err)
	}
	return Call{uint32(job), size, byte(first)}, nil
}

// Arguments makes the body of the call its arguments, in place.
func (c Call) Arguments(body []byte) ([]byte, error) {
	switch {
	case int64(len(body)) != c.Size:
		return nil, bad("the body has %d bytes, and header %s says %d: something on the way has changed it", len(body),
			contentType, c.Size)
	case c.Size == 0:
		return body, nil
	case body[0] != 0:
		return nil, bad("the body does not begin with a NUL, as it does in the raw form")
	}
	body[0] = c.First
	return body, nil
}

func bad(format string, args ...any) error {
	return faas.Errorf(faas.ErrInvalidArgument, "read request", "", format, args...)
}

// field is one "name=value" of a header.
type field struct {
	name, value string
	there       bool
}

// parseFields reads the parameters of the raw form's type, with known names only, each of them at
// most once. It returns the fields in the order of the names.
func parseFields(values []string, names ...string) (fields [4]field, err error) {
	if len(values) != 1 || len(values[0]) > maxHeader {
		return fields, fmt.Errorf("it is there %d times, or longer than %d bytes", len(values), maxHeader)
	}
	for i, name := range names {
		fields[i].name = name
	}
	mediaType, rest, _ := strings.Cut(values[0], ";")
	first, rest, more := strings.Cut(rest, ";")
	if !strings.EqualFold(strings.Trim(mediaType, " "), rawType) || strings.Trim(first, " ") != version {
		return fields, fmt.Errorf("it does not begin with %s; %s", rawType, version)
	}
	for more {
		var text string
		text, rest, more = strings.Cut(rest, ";")
		name, value, _ := strings.Cut(strings.Trim(text, " "), "=")
		i := slices.Index(names, name)
		if i < 0 || fields[i].there {
			return fields, fmt.Errorf("%.20q is not known, or there twice", name)
		}
		fields[i].value, fields[i].there = value, true
	}
	return fields, nil
}

// whole reads a decimal number without a sign.
func (f field) whole(limit int64) (int64, error) {
	n, err := strconv.ParseUint(f.value, 10, 63)
	if err != nil || int64(n) > limit {
		return 0, fmt.Errorf("%s=%.24q is not a whole number from 0 to %d", f.name, f.value, limit)
	}
	return int64(n), nil
}

// SetAnswer sets the headers of an answer in the raw form. r.Result is its body, which the caller
// writes.
func SetAnswer(h http.Header, r *faas.Response) {
	text := appendField(make([]byte, 0, maxHeader/2), rawType+"; "+version+"; job=", uint64(r.JobID))
	text = appendField(text, "; size=", uint64(len(r.Result)))
	if r.ExecutionMS > 0 {
		text = strconv.AppendFloat(append(text, "; execution_ms="...), min(r.ExecutionMS, 1<<53), 'f', 3, 64)
	}
	if r.MemoryUsedMB > 0 {
		text = appendField(text, "; memory_mb=", uint64(r.MemoryUsedMB))
	}
	h[contentType] = []string{string(text)}
	h["Content-Length"] = []string{strconv.Itoa(len(r.Result))}
	h["Cache-Control"] = noTransform
}

// ErrNotRaw is the error of an answer that is not in the raw form.
var ErrNotRaw = errors.New("its type is not that of the raw form")

// ParseAnswer reads an answer of status 200 to a request in the raw form. The result shares body.
func ParseAnswer(h http.Header, body []byte) (faas.Response, error) {
	if !isRaw(h[contentType]) {
		return faas.Response{}, ErrNotRaw
	}
	fields, err := parseFields(h[contentType], "job", "size", "execution_ms", "memory_mb")
	var job, size int64
	if err == nil {
		job, err = fields[0].whole(math.MaxUint32)
	}
	if err == nil {
		size, err = fields[1].whole(math.MaxInt64)
	}
	if err == nil && size != int64(len(body)) {
		err = fmt.Errorf("the output has %d bytes, and %d came", size, len(body))
	}
	if err != nil {
		return faas.Response{}, fmt.Errorf("header %s: %w", contentType, err)
	}
	r := faas.Response{JobID: uint32(job), Result: body, Success: true, Compact: true}
	// What is measured is not worth losing an output for.
	if ms, err := strconv.ParseFloat(fields[2].value, 64); err == nil && ms > 0 && ms <= math.MaxFloat64 {
		r.ExecutionMS = ms
	}
	if mb, err := fields[3].whole(math.MaxUint32); err == nil {
		r.MemoryUsedMB = uint32(mb)
	}
	if r.Result == nil {
		r.Result = []byte{}
	}
	return r, nil
}

// Refused reports whether a status says that a request in the raw form was refused, and nothing
// run, because whoever got it does not know the form. The same call in the published form is no
// second run.
func Refused(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusLengthRequired, http.StatusUnsupportedMediaType,
		http.StatusNotImplemented:
		return true
	}
	return false
}

// Body is the body of a request in the raw form. It reads the arguments where they are, and no more
// of them once it is released: a transport may read on after it has an answer.
type Body struct {
	mu   sync.RWMutex
	args []byte
	gone bool
}

// NewBody returns the body of a call with these arguments.
func NewBody(args []byte) *Body { return &Body{args: args} }

// Length is the Content-Length of the body: unknown, so that it is sent in chunks, the last of
// which ends it. A proxy written with net/http otherwise breaks off the answer of a job that is so
// fast that the proxy has not yet noticed the end of the request which it has passed on.
const Length = -1

// Release makes every reader of the body fail. The arguments are the caller's again.
func (b *Body) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = true
}

// Open returns a reader of the body from its beginning.
func (b *Body) Open() io.ReadCloser { return &bodyReader{body: b} }

type bodyReader struct {
	body *Body
	at   int
}

func (r *bodyReader) Read(p []byte) (int, error) {
	r.body.mu.RLock()
	defer r.body.mu.RUnlock()
	if r.body.gone {
		return 0, http.ErrBodyReadAfterClose
	}
	n := copy(p, r.body.args[r.at:])
	switch {
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	case r.at == 0 && n > 0:
		p[0] = 0 // the header has the first byte
	}
	r.at += n
	return n, nil
}

func (r *bodyReader) Close() error { return nil }
