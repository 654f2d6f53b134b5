package faas

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Response is the answer to an invocation in the custom platform protocol, which job binaries
// also use.
type Response struct {
	JobID        uint32
	Result       []byte
	Success      bool
	Error        string  // why Success is false
	ExecutionMS  float64 // milliseconds, may be fractional; 0 if unknown
	MemoryUsedMB uint32  // MiB; 0 if unknown
	// Compact says that Result travels in the compact form, {"base64":"..."}, which only answers a
	// request in the compact form.
	Compact bool
}

// MaxRequestSize returns an upper bound of the size of an invocation that [AppendRequest] writes
// for n bytes of arguments.
func MaxRequestSize(n int) int { return len(`{"job_id":4294967295,"args":[]}`) + maxNumberSize*n }

// AppendRequest appends the JSON of an invocation, {"job_id":n,"args":[...]}, to dst and returns
// the extended slice. It allocates only if dst lacks [MaxRequestSize] of capacity.
func AppendRequest(dst []byte, jobID uint32, args []byte) []byte {
	dst = slices.Grow(dst, MaxRequestSize(len(args)))
	dst = append(dst, `{"job_id":`...)
	dst = strconv.AppendUint(dst, uint64(jobID), 10)
	dst = append(dst, `,"args":`...)
	dst = appendByteList(dst, args)
	return append(dst, '}')
}

// RequestSize returns the exact number of bytes that [AppendRequest] appends.
func RequestSize(jobID uint32, args []byte) int {
	return len(`{"job_id":,"args":}`) + decimalSize(jobID) + byteListSize(args)
}

// AppendCompactRequest appends the JSON of an invocation in the compact form,
// {"job_id":n,"args":{"base64":"..."}}, to dst and returns the extended slice. A reader that
// knows only the published form refuses it, because its "args" are not a list. See
// [ParseAnyRequest].
func AppendCompactRequest(dst []byte, jobID uint32, args []byte) []byte {
	dst = slices.Grow(dst, CompactRequestSize(jobID, len(args)))
	dst = append(dst, `{"job_id":`...)
	dst = strconv.AppendUint(dst, uint64(jobID), 10)
	dst = append(dst, `,"args":`...)
	dst = appendBase64(dst, args)
	return append(dst, '}')
}

// CompactRequestSize returns the exact number of bytes that [AppendCompactRequest] appends for n
// bytes of arguments.
func CompactRequestSize(jobID uint32, n int) int {
	return len(`{"job_id":,"args":}`) + decimalSize(jobID) + base64Size(n)
}

// ParseAnyRequest is [ParseRequest] for a function that also takes the compact form. It reports
// whether the request is in that form. The answer must be in the same form; see [Response].
func ParseAnyRequest(dst, body []byte) (jobID uint32, args []byte, compact bool, err error) {
	return parseRequest(dst, body, true)
}

// ParseRequest reads the JSON of an invocation in the published form. It appends the arguments to
// dst, which may be nil, and returns the extended slice. It allocates only if dst lacks capacity
// for them, or if body has an unknown member with an escaped name.
//
// body is one JSON object with members in any order and white space anywhere that JSON allows it.
// "job_id" (0 to 4294967295) and "args" (a list of 0 to 255) must both be present once, with
// exactly these names. Numbers are plain integers: 1.0, 1e2 and 01 are refused. Members with
// other names are skipped if they are JSON, nested no deeper than 64 levels. Everything else,
// including anything after the object, is an ErrInvalidArgument that names the field and the byte
// offset. With an error, args is dst.
func ParseRequest(dst, body []byte) (jobID uint32, args []byte, err error) {
	jobID, args, _, err = parseRequest(dst, body, false)
	return jobID, args, err
}

func parseRequest(dst, body []byte, compactToo bool) (jobID uint32, args []byte, compact bool, err error) {
	s := scanner{op: "read request", text: body}
	var haveJob, haveArgs bool
	args = dst
	for {
		name, ok, err := s.member()
		if err != nil {
			return 0, dst, false, err
		}
		if !ok {
			break
		}
		switch string(name) {
		case "job_id":
			if err = s.once(&haveJob, "job_id"); err == nil {
				jobID, err = s.uint32("job_id")
			}
		case "args":
			if err = s.once(&haveArgs, "args"); err == nil {
				args, compact, err = s.bytes("args", dst, compactToo)
			}
		default:
			err = s.skip(1)
		}
		if err != nil {
			return 0, dst, false, err
		}
	}
	if err := s.end(); err != nil {
		return 0, dst, false, err
	}
	if !haveJob {
		return 0, dst, false, s.missing("job_id")
	}
	if !haveArgs {
		return 0, dst, false, s.missing("args")
	}
	return jobID, args, compact, nil
}

// MaxResponseSize returns an upper bound of the size of a successful answer that [AppendResponse]
// writes for n bytes of output.
func MaxResponseSize(n int) int {
	return len(`{"job_id":4294967295,"result":[],"success":false,"execution_ms":,"memory_used_mb":4294967295}`) + 20 +
		maxNumberSize*n
}

// maxWholeMS is the largest "execution_ms" that is written, since every JSON reader represents it
// exactly.
const maxWholeMS = 1 << 53

// AppendResponse appends the JSON of an answer to dst and returns the extended slice. With
// Success, an answer has "job_id", "result", "success", "execution_ms" and "memory_used_mb".
// Without, it has "job_id", "result", "success" and "error", and the two measurements if they are
// known. ExecutionMS is rounded up to whole milliseconds, which readers of the protocol expect;
// if it is negative or not a number, it is written as unknown. AppendResponse allocates only if
// dst lacks capacity; see [MaxResponseSize].
func AppendResponse(dst []byte, r *Response) []byte {
	if r.Compact {
		dst = slices.Grow(dst, MaxResponseSize(0)+base64Size(len(r.Result)))
	} else {
		dst = slices.Grow(dst, MaxResponseSize(len(r.Result)))
	}
	dst = append(dst, `{"job_id":`...)
	dst = strconv.AppendUint(dst, uint64(r.JobID), 10)
	dst = append(dst, `,"result":`...)
	if r.Compact {
		dst = appendBase64(dst, r.Result)
	} else {
		dst = appendByteList(dst, r.Result)
	}
	if r.Success {
		dst = append(dst, `,"success":true`...)
	} else {
		dst = append(dst, `,"success":false,"error":`...)
		dst = appendString(dst, r.Error)
	}
	ms := r.ExecutionMS
	if !(ms > 0 && ms <= math.MaxFloat64) {
		ms = 0
	}
	if r.Success || ms > 0 {
		dst = append(dst, `,"execution_ms":`...)
		dst = strconv.AppendUint(dst, uint64(min(math.Ceil(ms), maxWholeMS)), 10)
	}
	if r.Success || r.MemoryUsedMB > 0 {
		dst = append(dst, `,"memory_used_mb":`...)
		dst = strconv.AppendUint(dst, uint64(r.MemoryUsedMB), 10)
	}
	return append(dst, '}')
}

// ParseResponse reads the JSON of an answer in either form into r, as strictly as [ParseRequest]
// reads a request. It appends the result to r.Result[:0], and allocates only if that lacks
// capacity or the answer holds an error.
//
// Every member may be left out or null, but at least one of "result", "success" and "error" must
// be present. Without "success" the answer is a success if it has a "result" (null is an empty
// one) and no "error", or an empty one. A "success" that is true without a "result" is refused:
// the result was lost, and must not pass for an empty one. "execution_ms" and "memory_used_mb"
// are any numbers from 0 on; "memory_used_mb" is rounded up. With an error, r is empty but for
// the buffer in r.Result.
func ParseResponse(body []byte, r *Response) error {
	buffer := r.Result[:0]
	*r = Response{Result: buffer}
	if err := parseResponse(body, r); err != nil {
		*r = Response{Result: buffer}
		return err
	}
	return nil
}

func parseResponse(body []byte, r *Response) error {
	s := scanner{op: "read response", text: body}
	var job, result, success, message, execution, memory bool // seen
	var successNull, messageNull bool
	for {
		name, ok, err := s.member()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		switch string(name) {
		case "job_id":
			if err = s.once(&job, "job_id"); err == nil && !s.null() {
				r.JobID, err = s.uint32("job_id")
			}
		case "result":
			if err = s.once(&result, "result"); err == nil && !s.null() {
				r.Result, r.Compact, err = s.bytes("result", r.Result, true)
			}
		case "success":
			if err = s.once(&success, "success"); err == nil {
				if successNull = s.null(); !successNull {
					r.Success, err = s.bool("success")
				}
			}
		case "error":
			if err = s.once(&message, "error"); err == nil {
				if messageNull = s.null(); !messageNull {
					r.Error, err = s.string("error")
				}
			}
		case "execution_ms":
			if err = s.once(&execution, "execution_ms"); err == nil && !s.null() {
				r.ExecutionMS, err = s.measure("execution_ms", math.MaxFloat64)
			}
		case "memory_used_mb":
			if err = s.once(&memory, "memory_used_mb"); err == nil && !s.null() {
				var mb float64
				mb, err = s.measure("memory_used_mb", math.MaxUint32)
				r.MemoryUsedMB = uint32(math.Ceil(mb))
			}
		default:
			err = s.skip(1)
		}
		if err != nil {
			return err
		}
	}
	if err := s.end(); err != nil {
		return err
	}
	success, message = success && !successNull, message && !messageNull
	switch {
	case success && r.Success && !result:
		return Errorf(ErrInvalidArgument, s.op, "", "the answer says success and has no result")
	case success:
	case result:
		r.Success = r.Error == ""
	case !message:
		return Errorf(ErrInvalidArgument, s.op, "", "the answer has neither result nor success nor error")
	}
	return nil
}

// appendString appends a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendString(dst []byte, text string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, size := utf8.DecodeRuneInString(text[i:])
			dst = utf8.AppendRune(dst, r)
			i += size
			continue
		}
		i++
	}
	return append(dst, '"')
}

// WarmRequest is the JSON that a provider sends to a function instead of an invocation, to start
// an instance without running a job. WarmResponse is the answer of a binary that links faas/job.
// Other binaries answer with an error, but the instance has started.
const (
	WarmRequest  = `{"warm":true}`
	WarmResponse = `{"warm":true}`
)

// IsWarmRequest reports whether body is [WarmRequest], with any spacing and unknown members. A
// body that names a job is not one.
func IsWarmRequest(body []byte) bool {
	const longest = 4 << 10 // no invocation with large arguments is parsed twice
	if len(body) > longest {
		return false
	}
	if string(body) == WarmRequest {
		return true
	}
	var probe struct {
		Warm  bool            `json:"warm"`
		JobID json.RawMessage `json:"job_id"`
		Args  json.RawMessage `json:"args"`
	}
	return json.Unmarshal(body, &probe) == nil && probe.Warm && probe.JobID == nil && probe.Args == nil
}
