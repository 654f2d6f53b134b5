// Package payloads is what providers and job binaries share of how a job's bytes travel to a
// function and back: in which form, how many fit, and the raw form of HTTP. The forms in JSON are
// package faas's.
package payloads

import (
	"fmt"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Form is how a job's bytes travel.
type Form int

// The forms.
const (
	Numbers Form = iota // the published form, which everything takes: JSON with a list of numbers
	Base64              // the compact form of a protocol of JSON
	Raw                 // the compact form over HTTP: the bytes as they are
)

// Limit is what a provider carries, in bytes. It holds for a request and for an answer alike.
type Limit struct {
	Provider string
	Job      int // of the job's arguments, or of its output
	Body     int // of the request's body; 0: only Job counts
	Compact  Form
}

// Of returns the provider's limit for the bytes of a job, as package faas knows it.
func Of(provider string, body int, compact Form) Limit {
	limits, _ := faas.ProviderLimits(provider)
	return Limit{provider, int(limits.MaxPayloadMB) << 20, body, compact}
}

// size returns the size of the body in which arguments travel.
func size(form Form, jobID uint32, args []byte) int {
	switch form {
	case Numbers:
		return faas.RequestSize(jobID, args)
	case Base64:
		return faas.CompactRequestSize(jobID, len(args))
	}
	return len(args)
}

// Check returns an ErrTooLarge with NotRun if the arguments do not fit in the form, and nil if they
// do.
func (l Limit) Check(form Form, jobID uint32, args []byte) error {
	if err := l.check(form, jobID, args); err != nil {
		err.NotRun = true
		return err
	}
	return nil
}

func (l Limit) check(form Form, jobID uint32, args []byte) *faas.Error {
	refuse := func(format string, a ...any) *faas.Error {
		return faas.JobErrorf(faas.ErrTooLarge, "invoke", l.Provider, jobID, format, a...)
	}
	if len(args) > l.Job {
		return refuse("the arguments are %d bytes, the limit is %d", len(args), l.Job)
	}
	if l.Body == 0 || form == Numbers && faas.MaxRequestSize(len(args)) <= l.Body { // which need not be counted
		return nil
	}
	body := size(form, jobID, args)
	if body <= l.Body {
		return nil
	}
	if form != Numbers {
		return refuse("the arguments are %d bytes, which make a request of %d bytes; the limit is %d", len(args), body,
			l.Body)
	}
	remedy := ""
	if size(l.Compact, jobID, args) <= l.Body {
		remedy = "; " + l.Remedy()
	}
	return refuse("the arguments are %d bytes, which make a request of %d bytes as a list of numbers; the limit is %d%s",
		len(args), body, l.Body, remedy)
}

// Most returns how many bytes of a job fit whatever they are.
func (l Limit) Most(form Form) int {
	most := l.Job
	if l.Body > 0 {
		switch form {
		case Numbers:
			most = min(most, (l.Body-faas.MaxRequestSize(0))/4)
		case Base64:
			most = min(most, (l.Body-faas.CompactRequestSize(1<<32-1, 0))/4*3)
		default:
			most = min(most, l.Body)
		}
	}
	return most
}

// Remedy says how to have more bytes carried than fit in the published form.
func (l Limit) Remedy() string {
	return fmt.Sprintf("to have up to %d bytes carried, deploy the function again with a binary that links this "+
		"version of faas/job", l.Most(l.Compact))
}

// Answer returns the error for an answer of the job that is too large, where cause says how large
// it is. In the published form another one may carry it.
func (l Limit) Answer(form Form, jobID uint32, cause error) *faas.Error {
	remedy := ""
	if form == Numbers && l.Body > 0 && l.Most(Numbers) < l.Most(l.Compact) {
		remedy = "; it travelled as a list of numbers: " + l.Remedy()
	}
	return faas.JobErrorf(faas.ErrTooLarge, "invoke", l.Provider, jobID,
		"the job has run, and its answer is too large: %w%s", cause, remedy)
}

// CheckOutput returns the error for an output above the limit, nil for one that is not.
func (l Limit) CheckOutput(jobID uint32, output []byte) *faas.Error {
	if len(output) <= l.Job {
		return nil
	}
	return l.Answer(l.Compact, jobID, fmt.Errorf("it has %d bytes, the limit is %d", len(output), l.Job))
}

// TooLarge is the code by which a function that speaks HTTP says that its answer is too large.
const TooLarge = "TOO_LARGE"

// markPrefix begins the mark of a function that takes the compact form. The number is that of the
// form.
const markPrefix = "compact1-"

// Mark returns the value of the tag or label that records at a provider that a package's functions
// take the compact form. It is bound to the package: who puts another package in its place, and
// does not know the tag, leaves it behind.
func Mark(packageSHA256 string) string {
	return markPrefix + packageSHA256[:min(16, len(packageSHA256))]
}

// IsMark reports whether a tag says that the package's functions take the compact form.
func IsMark(value, packageSHA256 string) bool {
	return packageSHA256 != "" && value == Mark(packageSHA256)
}
