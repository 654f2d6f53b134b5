package faas

// Response is the answer to an invocation in the custom platform protocol, which job binaries answer too.
type Response struct {
	JobID        uint32
	Result       []byte
	Success      bool
	Error        string
	ExecutionMS  float64
	MemoryUsedMB uint32
}

// AppendRequest appends the JSON of an invocation, {"job_id":n,"args":[...]}, to dst.
func AppendRequest(dst []byte, jobID uint32, args []byte) []byte { panic("being written") }

// ParseRequest reads the JSON of an invocation. It appends the arguments to dst, which may be nil, and returns the extended slice.
func ParseRequest(dst, body []byte) (jobID uint32, args []byte, err error) { panic("being written") }

// AppendResponse appends the JSON of an answer to dst.
func AppendResponse(dst []byte, r *Response) []byte { panic("being written") }

// ParseResponse reads the JSON of an answer into r. It appends the result to r.Result[:0].
func ParseResponse(body []byte, r *Response) error { panic("being written") }
