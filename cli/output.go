package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// The exit codes. A program that runs this one acts on them, never on the text.
const (
	exitOK          = 0
	exitInternal    = 1
	exitUsage       = 2
	exitUnhealthy   = 20
	exitInterrupted = 130
)

var exitCodes = map[faas.Code]int{
	faas.ErrInternal: exitInternal, faas.ErrInvalidArgument: exitUsage, faas.ErrNotFound: 3, faas.ErrAlreadyExists: 4,
	faas.ErrTooLarge:         5,
	faas.ErrPermissionDenied: 6, faas.ErrThrottled: 7, faas.ErrConflict: 8, faas.ErrTimeout: 9, faas.ErrUnavailable: 10,
	faas.ErrUnsupported: 11,
	faas.ErrNotLinked:   12, faas.ErrFunctionFailed: 13,
}

const exitHelp = `Exit codes: 0 success, 1 internal error, 2 invalid argument or policy, 3 not found, 4 already exists, 5 too large,
6 permission denied, 7 throttled, 8 conflict, 9 timeout, 10 unavailable, 11 unsupported, 12 provider not linked,
13 the function failed, 20 status or doctor: something is not as it should be, 130 interrupted.`

// unhealthyError is what status and doctor end with where something is not as it should be. The answer itself tells what.
type unhealthyError struct{}

func (unhealthyError) Error() string { return "the service is not as it should be" }

// fail prints why the program ends and returns its exit code.
func (a *app) fail(ctx context.Context, cmd *cobra.Command, err error) int {
	code, kind := exitInternal, faas.CodeOf(err)
	var usage usageError
	switch {
	case errors.As(err, &unhealthyError{}):
		return exitUnhealthy
	case ctx.Err() != nil:
		code = exitInterrupted
	case errors.As(err, &usage) || !a.running:
		code, kind = exitUsage, faas.ErrInvalidArgument
	default:
		code = exitCodes[kind]
	}
	if a.json {
		_ = json.NewEncoder(a.log).Encode(map[string]any{"error": errorReport(err, kind, code)}) // there is nowhere to tell
		return code
	}
	a.log.printf("%s %s\n", a.log.paint(red, "error:"),
		withFlags(strings.ReplaceAll(strings.TrimPrefix(err.Error(), "faas: "), ": faas: ", ": ")))
	if code == exitUsage && !a.running {
		a.log.printf("see: %s --help\n", cmd.CommandPath())
	}
	return code
}

type failure struct {
	Code      faas.Code `json:"code"`
	ExitCode  int       `json:"exit_code"`
	Message   string    `json:"message"`
	Provider  string    `json:"provider,omitempty"`
	JobID     *int64    `json:"job_id,omitempty"`
	NotRun    bool      `json:"not_run,omitempty"`
	Leftovers []string  `json:"leftovers,omitempty"`
}

func errorReport(err error, kind faas.Code, code int) failure {
	f := failure{Code: kind, ExitCode: code, Message: err.Error()}
	var fe *faas.Error
	if errors.As(err, &fe) {
		f.Provider, f.NotRun, f.Leftovers = fe.Provider, fe.NotRun, fe.Leftovers
		if fe.JobID != faas.NoJob {
			f.JobID = &fe.JobID
		}
	}
	return f
}

// answer prints v as JSON where that was asked for, and else what text writes.
func (a *app) answer(v any, text func(w io.Writer)) error {
	if a.json {
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	text(w)
	if err := w.Flush(); err != nil {
		return err
	}
	for _, line := range a.later {
		a.remark("%s", line)
	}
	a.later = nil
	return nil
}

// afterwards remarks something below the answer.
func (a *app) afterwards(format string, args ...any) {
	a.later = append(a.later, fmt.Sprintf(format, args...))
}

// remark tells what is good to know, unless --quiet.
func (a *app) remark(format string, args ...any) {
	if !a.quiet {
		a.log.printf(format+"\n", args...)
	}
}

func (a *app) warn(texts ...string) {
	for _, text := range texts {
		a.remark("%s %s", a.log.paint(yellow, "warning:"), printable(withFlags(text)))
	}
}

// printable leaves out what would change how a terminal shows the text: names and messages may come from a chain or a function.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// console writes to standard error, above the live lines where there are any.
type console struct {
	w     io.Writer
	width func() int // nil: no terminal
	color bool

	mu   sync.Mutex
	live io.Writer // prints above the live lines; nil where there are none
}

// The colours, as the terminal knows them.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
)

func (c *console) paint(color, text string) string {
	if !c.color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live != nil {
		if n, err := c.live.Write(b); err == nil {
			return n, nil
		}
	}
	return c.w.Write(b)
}

func (c *console) printf(format string, args ...any) { fmt.Fprintf(c, format, args...) }

// show says what prints above the live lines from now on.
func (c *console) show(live io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = live
}
