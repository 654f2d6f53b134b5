package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// The exit codes. Programs act on them and never on the text.
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

const exitHelp = `Exit codes: 0 success, 1 internal error, 2 invalid argument or policy, 3 not found,
4 already exists, 5 too large, 6 permission denied, 7 throttled, 8 conflict, 9 timeout,
10 unavailable, 11 unsupported, 12 provider not linked, 13 the function failed,
20 status or doctor found something wrong, 130 interrupted.`

// unhealthyError ends status and doctor if something is wrong. The answer itself says what.
type unhealthyError struct{}

func (unhealthyError) Error() string { return "something is wrong" }

// fail prints the error and returns the exit code.
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
		_ = json.NewEncoder(a.log).Encode(map[string]any{"error": errorReport(err, kind, code)}) // nowhere else to report
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

// answer prints v as JSON with --json, and otherwise what text writes.
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

// afterwards prints a remark below the answer.
func (a *app) afterwards(format string, args ...any) {
	a.later = append(a.later, fmt.Sprintf(format, args...))
}

// remark prints a line to standard error, unless --quiet is set.
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

// printable replaces what could control a terminal: names and messages may come from a chain or a
// function.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// console writes to standard error, above the live lines if any are shown.
type console struct {
	w     io.Writer
	width func() int // nil: not a terminal
	color bool

	mu   sync.Mutex
	live io.Writer // prints above the live lines; nil if none are shown
}

// The colors, as codes of the terminal.
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

// show sets what prints above the live lines.
func (c *console) show(live io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = live
}

// terminalWidth returns a function that returns the columns of f; nil if f is not a terminal.
func terminalWidth(f *os.File) func() int {
	if !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func() int {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil || width < 1 {
			return 80
		}
		return width
	}
}
