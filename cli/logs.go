package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// defaultTail is the number of lines shown if no flag says which.
const defaultTail = 100

func (a *app) logsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "logs", Short: "Show what a service's jobs printed",
		Long: `Shows the lines that the jobs of a service printed, of all its functions in the order of time: time,
job and text. Without --since, --until and --tail it shows the last ` + strconv.Itoa(defaultTail) + ` lines.
--follow then shows new lines until Ctrl-C, which ends it with exit code 0.

The provider decides how late lines appear and what you may read: seconds on AWS Lambda and Google
Cloud, minutes on Azure, which needs the option application_insights. Control characters are shown as
escapes such as \x1b. --json prints a JSON document for each line, with the text unchanged.`,
		Example: `  tangle-cloud logs --service-id 123
  tangle-cloud logs --service-id 123 --job 0 --since 10m
  tangle-cloud logs --service-id 123 --follow
  tangle-cloud logs --name my-service --since 2026-03-04T05:00:00Z --until 2026-03-04T06:00:00Z --system
  tangle-cloud logs --name my-service --tail 1000 --json | jq .text`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	s := bindService(flags)
	jobs := flags.UintSlice("job", nil, "`number` of a job whose lines to show; may be repeated (default: all)")
	since, until := moment{now: time.Now}, moment{now: time.Now}
	flags.Var(&since, "since", "show lines from this `time` on: 2026-03-04T05:06:07Z, or how long ago, such as 10m or 2d")
	flags.Var(&until, "until", "show lines before this `time`")
	tail := flags.Int("tail", 0, "show the last so many lines; 0 shows all")
	follow := flags.BoolP("follow", "f", false, "go on with the lines that are printed from now on, until Ctrl-C")
	system := flags.Bool("system", false, "show also what the platform writes around invocations")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q := faas.LogQuery{Since: since.at, Until: until.at, Limit: *tail, Follow: *follow, System: *system}
		if !anyChanged(flags, "since", "until", "tail") {
			q.Limit = defaultTail
		}
		for _, job := range *jobs {
			if uint64(job) > 1<<32-1 {
				return usagef("--job " + strconv.FormatUint(uint64(job), 10) + " is not the number of a job")
			}
			q.JobIDs = append(q.JobIDs, uint32(job))
		}
		return a.showLogs(cmd.Context(), s, q)
	}
	return cmd
}

func anyChanged(flags *pflag.FlagSet, names ...string) bool {
	return slices.ContainsFunc(names, flags.Changed)
}

func (a *app) showLogs(ctx context.Context, s *serviceFlags, q faas.LogQuery) (err error) {
	service, err := a.open(ctx, s)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := closeService(ctx, service); err == nil {
			err = closeErr
		}
	}()
	out := a.logPrinter(service)
	n := 0
	for line, err := range service.Logs(ctx, q) {
		if err != nil {
			if q.Follow && ctx.Err() != nil {
				return nil // following ends like this
			}
			return err
		}
		n++
		if err := out(line); err != nil {
			return err
		}
	}
	if n == 0 {
		a.remark("nothing was printed")
	}
	return nil
}

// loggedLine is one line of the output with --json.
type loggedLine struct {
	Time       *time.Time `json:"time,omitempty"`
	JobID      *int64     `json:"job_id,omitempty"`
	FunctionID string     `json:"function_id,omitempty"`
	Severity   string     `json:"severity,omitempty"`
	RequestID  string     `json:"request_id,omitempty"`
	System     bool       `json:"system,omitempty"`
	Text       string     `json:"text"`
	Truncated  bool       `json:"truncated,omitempty"`
}

// logPrinter returns a function that prints a line, aligned or as JSON.
func (a *app) logPrinter(service *serverless.Service) func(faas.LogLine) error {
	if a.json {
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		return func(l faas.LogLine) error {
			line := loggedLine{FunctionID: l.FunctionID, Severity: l.Severity, RequestID: l.RequestID, System: l.System,
				Text: l.Text, Truncated: l.Truncated}
			if !l.Time.IsZero() {
				line.Time = &l.Time
			}
			if l.JobID != faas.NoJob {
				line.JobID = &l.JobID
			}
			return enc.Encode(line)
		}
	}
	width := len("job")
	for _, d := range service.Deployments() {
		width = max(width, len(strconv.FormatUint(uint64(d.JobID), 10)))
	}
	return func(l faas.LogLine) error {
		job, at := "-", strings.Repeat(" ", len(logTime)-1)+"-"
		if l.JobID != faas.NoJob {
			job = strconv.FormatInt(l.JobID, 10)
		}
		if !l.Time.IsZero() {
			at = l.Time.UTC().Format(logTime)
		}
		text := escaped(l.Text)
		if l.Truncated {
			text += " ..."
		}
		switch {
		case l.Severity == faas.SeverityError || l.Severity == faas.SeverityCritical:
			text = a.paintOut(red, text)
		case l.Severity == faas.SeverityWarning:
			text = a.paintOut(yellow, text)
		case l.System:
			text = a.paintOut(dim, text)
		}
		_, err := fmt.Fprintf(a.out, "%s  %*s  %s\n", a.paintOut(dim, at), width, job, text)
		return err
	}
}

// logTime is the layout of times in UTC; they all have the same length.
const logTime = "2006-01-02T15:04:05.000Z"

// paintOut colors text for standard output if that is a terminal.
func (a *app) paintOut(color, text string) string {
	return (&console{color: a.colorOut}).paint(color, text)
}

// escaped writes everything that could control a terminal as Go escapes, ends of lines included.
func escaped(text string) string {
	var b strings.Builder
	for text != "" {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1: // invalid UTF-8
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case r == '\t' || strconv.IsGraphic(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		text = text[size:]
	}
	return b.String()
}

// moment is the value of a flag: a time, or how long ago it was.
type moment struct {
	at  time.Time
	now func() time.Time
}

// String returns the default as the flag's help shows it.
func (m *moment) String() string {
	if m.at.IsZero() {
		return ""
	}
	return m.at.Format(time.RFC3339)
}

// Type returns the name of the value in the flag's help.
func (m *moment) Type() string { return "time" }

// Set parses the value.
func (m *moment) Set(text string) error {
	ago, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok && err != nil {
		var n float64
		if n, err = strconv.ParseFloat(days, 64); err == nil {
			ago = time.Duration(n * 24 * float64(time.Hour))
		}
	}
	if err == nil {
		if ago < 0 {
			return fmt.Errorf("%q is in the future", text)
		}
		m.at = m.now().Add(-ago)
		return nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			m.at = at
			return nil
		}
	}
	return fmt.Errorf("%q is neither a time such as 2026-03-04T05:06:07Z nor how long ago it was, such as 10m", text)
}
