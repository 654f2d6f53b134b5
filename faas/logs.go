package faas

import (
	"context"
	"iter"
	"time"
)

// LogReader reads what functions, or a runner's jobs, printed. If nothing keeps that, the
// sequence is one ErrUnsupported.
type LogReader interface {
	// Logs returns the lines that q asks for, ordered by time as far as the provider orders them.
	// The lines of one process keep their order. The sequence does nothing until it is ranged over,
	// and releases everything when the loop ends. A function that printed nothing has no lines; that
	// is not an error.
	//
	// An error is the last element, with a zero LogLine. Codes: ErrInvalidArgument for a query that
	// LogQuery.Check refuses; ErrNotFound if a job that q names has no function; ErrTimeout if ctx
	// ended the sequence; ErrUnsupported if the provider, as it is set up, keeps no lines, with what
	// to do about it; ErrPermissionDenied with the missing permission; ErrThrottled; ErrUnavailable.
	//
	// Without LogQuery.Follow the sequence ends with the lines that exist. With Follow it continues
	// with each new line, once, as soon as the provider shows it; lines that the provider shows late
	// come out of order. It ends when ctx is done or the loop is left, and without an error when the
	// functions are gone, if the provider notices.
	//
	// While it follows, a provider that has to be asked for new lines is asked after a short pause,
	// which grows to half a minute while no lines come, and further while the provider throttles.
	// Throttling and a short unavailability do not end the sequence. The pause is the only wait, and
	// ends with ctx.
	Logs(ctx context.Context, q LogQuery) iter.Seq2[LogLine, error]
}

// LogQuery says which lines are wanted.
type LogQuery struct {
	// JobIDs are the jobs whose lines are wanted, at least one. Service.Logs of the root package
	// fills in all jobs of a service. If functions share a process, lines that belong to no known
	// job are returned for each of them.
	JobIDs []uint32 `json:"job_ids"`
	// Since (inclusive) and Until (exclusive) bound the time of the lines. Zero means no bound but
	// what the provider keeps.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Limit keeps only the last Limit lines of those that exist; 0 keeps all. Lines that are printed
	// later do not count.
	Limit int `json:"limit,omitempty"`
	// Follow continues with lines that are printed later. It excludes Until.
	Follow bool `json:"follow,omitempty"`
	// System also asks for the lines that the platform writes around invocations, such as Lambda's
	// START, END and REPORT. Lines that explain why a job failed, such as a timeout or too little
	// memory, are included without it.
	System bool `json:"system,omitempty"`
}

// Check returns an ErrInvalidArgument in the provider's name if the query has no job, a negative
// Limit, an Until that is not after Since, or an Until with Follow.
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

// LogLine is a line that a function printed, or that its platform wrote about it.
type LogLine struct {
	Time       time.Time `json:"time,omitzero"` // in UTC, as exact as the provider gives it; zero if unknown
	JobID      int64     `json:"job_id"`        // NoJob if unknown
	FunctionID string    `json:"function_id,omitempty"`
	// Severity is DEBUG, INFO, WARNING, ERROR or CRITICAL, or empty if the provider does not tell.
	Severity string `json:"severity,omitempty"`
	// RequestID is the provider's name for the invocation, if known.
	RequestID string `json:"request_id,omitempty"`
	System    bool   `json:"system,omitempty"` // written by the platform, and not by the job
	// Text is what was printed, without the line end. It is not sanitized: it may hold control
	// characters, several lines, or invalid UTF-8.
	Text      string `json:"text"`
	Truncated bool   `json:"truncated,omitempty"` // the provider did not keep all of the line
}

// Severities that a LogLine can have.
const (
	SeverityDebug    = "DEBUG"
	SeverityInfo     = "INFO"
	SeverityWarning  = "WARNING"
	SeverityError    = "ERROR"
	SeverityCritical = "CRITICAL"
)
