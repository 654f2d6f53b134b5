package faas

import (
	"context"
	"iter"
	"time"
)

// LogReader shows what functions, or a runner's jobs, printed. If nothing keeps that, the sequence is one ErrUnsupported.
type LogReader interface {
	// Logs returns the lines that q asks for, in the order of their times as far as the provider has them in that order; lines of one process keep theirs. The sequence does nothing until it is
	// ranged over, and nothing goes on of it once the loop has ended, however that came. A function that printed nothing has no lines, and that is no error.
	//
	// An error is the last element, with a zero LogLine. Codes: ErrInvalidArgument for a query that makes no sense (see LogQuery.Check), ErrNotFound where
	// a job that q names has no function, ErrTimeout where ctx ended the sequence, ErrUnsupported where the provider keeps no lines as it is set up, with what to do about it,
	// ErrPermissionDenied with the permission that is missing, ErrThrottled, ErrUnavailable.
	//
	// Without LogQuery.Follow the sequence ends with the lines that there are. With it, the sequence then goes on with the lines that are printed from then on, each once, as soon as
	// the provider shows them, and those that it shows late out of order. It ends when ctx is done or the loop is left, and without an error when the functions
	// are gone, where the provider notices. While it follows, a provider that is asked for news waits a moment after news and longer each time that there are none, up to half a minute, and longer
	// still where it is throttled: throttling and a short unavailability do not end the sequence. The pause is the only wait, and ends with ctx.
	Logs(ctx context.Context, q LogQuery) iter.Seq2[LogLine, error]
}

// LogQuery says which lines are wanted.
type LogQuery struct {
	// JobIDs are the jobs whose lines are wanted, at least one. Service.Logs of the root package fills in all of a service. Where functions share a process, the lines that no job can
	// be told of come with any of them.
	JobIDs []uint32 `json:"job_ids"`
	// Since and Until bound the time of the lines: Since included, Until not. Zero: no bound but what the provider keeps.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Limit keeps only the last so many of the lines that there are; 0: all of them. Lines that are printed later do not count.
	Limit int `json:"limit,omitempty"`
	// Follow goes on with the lines that are printed from now on. It excludes Until.
	Follow bool `json:"follow,omitempty"`
	// System asks also for the lines that the platform writes around invocations, such as Lambda's START, END and REPORT. Those that tell why a job
	// failed, such as a timeout or too little memory, are there without it.
	System bool `json:"system,omitempty"`
}

// Check returns an ErrInvalidArgument of the provider where the query makes no sense: no job, a negative Limit, an Until that is not after Since, or an Until with Follow.
func (q LogQuery) Check(provider string) error {
	bad := func(format string, args ...any) error {
		return Errorf(ErrInvalidArgument, "logs", provider, format, args...)
	}
	switch {
	case len(q.JobIDs) == 0:
		return bad("no job is named: LogQuery.JobIDs has to hold at least one")
	case q.Limit < 0:
		return bad("LogQuery.Limit is %d: it is a number of lines, or 0 for all", q.Limit)
	case q.Follow && !q.Until.IsZero():
		return bad("LogQuery.Until is %s: lines are followed without an end", q.Until.Format(time.RFC3339))
	case !q.Until.IsZero() && !q.Until.After(q.Since):
		return bad("LogQuery.Until is %s, which is not after Since, %s", q.Until.Format(time.RFC3339),
			q.Since.Format(time.RFC3339))
	}
	return nil
}

// LogLine is a line that a function printed, or that its platform wrote of it.
type LogLine struct {
	Time       time.Time `json:"time,omitzero"` // in UTC, as exactly as the provider tells; zero for unknown
	JobID      int64     `json:"job_id"`        // NoJob where it cannot be told
	FunctionID string    `json:"function_id,omitempty"`
	// Severity is one of DEBUG, INFO, WARNING, ERROR and CRITICAL where the provider tells, else empty.
	Severity string `json:"severity,omitempty"`
	// RequestID is the provider's name for the invocation, where it can be told.
	RequestID string `json:"request_id,omitempty"`
	System    bool   `json:"system,omitempty"` // written by the platform, and not by the job
	// Text is what was printed, without the end of the line. It is foreign: it may hold control characters, several lines, or bytes that are no UTF-8.
	Text      string `json:"text"`
	Truncated bool   `json:"truncated,omitempty"` // there was more than the provider keeps of a line
}

// Severities that a LogLine can have.
const (
	SeverityDebug    = "DEBUG"
	SeverityInfo     = "INFO"
	SeverityWarning  = "WARNING"
	SeverityError    = "ERROR"
	SeverityCritical = "CRITICAL"
)
