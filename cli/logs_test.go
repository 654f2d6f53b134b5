package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// printing is a blueprint whose jobs print a line that is not harmless.
const printing = `#!/bin/sh
read -r request
case "$request" in
*'"job_id":1'*) printf 'job one \033[2Jsays\n' >&2 ;;
*) echo "job zero" >&2 ;;
esac
echo '{"result":[1]}'
`

// printed is a desk whose service 123 has printed a line of job 0 and one of job 1.
func printed(t testing.TB) *desk {
	t.Helper()
	d := ready(t)
	if err := os.WriteFile(d.binary, []byte(printing), 0o755); err != nil {
		t.Fatal(err)
	}
	d.ok("deploy", "--service-id", "123", "--binary", d.binary)
	d.ok("invoke", "--service-id", "123", "0")
	d.ok("invoke", "--service-id", "123", "1")
	return d
}

var aTime = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)

// untimed replaces the times of lines.
func untimed(text string) string { return aTime.ReplaceAllString(text, "TIME") }

func TestLogsShowWhatJobsPrinted(t *testing.T) {
	d := printed(t)
	const zero, one = "TIME    0  job zero\n", "TIME    1  job one \\x1b[2Jsays\n"
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, zero + one}, {[]string{"--job", "1"}, one}, {[]string{"--job", "0", "--job", "1"}, zero + one},
		{[]string{"--tail", "1"}, one}, {[]string{"--since", "10m"}, zero + one},
		{[]string{"--since", "2d", "--tail", "1"}, one}, {[]string{"--until", "10m"}, ""},
		{[]string{"--since", "2000-01-02T03:04:05+02:00", "--until", "2000-01-03"}, ""},
		{[]string{"--tail", "0", "--system"}, zero + one},
	} {
		if diff := cmp.Diff(tt.want, untimed(d.ok(append([]string{"logs", "--service-id", "123"},
			tt.args...)...))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.args, diff)
		}
	}
	if r := d.do(t.Context(), "", "logs", "--service-id", "123", "--until", "10m"); !strings.Contains(
		r.err, "nothing was printed") {
		t.Errorf("there is nothing, and it says %q", r.err)
	}
	lines := json.NewDecoder(strings.NewReader(d.ok("service", "logs", "--service-id", "123", "--json")))
	var got []loggedLine
	for {
		var l loggedLine
		if err := lines.Decode(&l); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	if len(got) != 2 || got[0].Time == nil || *got[0].JobID != 0 || got[1].FunctionID == "" ||
		got[1].Text != `job one \x1b[2Jsays` {
		t.Errorf("%+v", got)
	}
}

func TestLogsRefusesWhatMakesNoSense(t *testing.T) {
	d := printed(t)
	for args, code := range map[string]int{
		"--job 77": 3, "--job x": exitUsage, "--job 4294967296": exitUsage, "--tail -1": exitUsage,
		"--since yesterday": exitUsage, "--since -5m": exitUsage, "--follow --until 1m": exitUsage,
		"--since 1m --until 2m": exitUsage, "extra": exitUsage,
	} {
		if r := d.do(t.Context(), "", append([]string{"logs", "--service-id", "123"},
			strings.Fields(args)...)...); r.code != code || r.out != "" || r.err == "" {
			t.Errorf("%s: exit code %d, want %d: %s%s", args, r.code, code, r.out, r.err)
		}
	}
}

func TestFollowingEndsWithCtrlCAndCodeZero(t *testing.T) {
	d := printed(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	r, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, d.args([]string{"logs", "--service-id", "123", "-f", "--tail", "1"}),
			streams{in: strings.NewReader(""), out: w, err: io.Discard, colorOut: true})
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	next := func() string {
		if !lines.Scan() {
			t.Fatalf("it ended with code %d", <-code)
		}
		return lines.Text()
	}
	if line := next(); !strings.HasPrefix(line, "\x1b[2m20") ||
		!strings.HasSuffix(line, "\x1b[0m    1  job one \\x1b[2Jsays") {
		t.Errorf("on a terminal: %q", line)
	}
	d.ok("invoke", "--service-id", "123", "0")
	if line := next(); !strings.HasSuffix(line, "job zero") {
		t.Errorf("followed: %q", line)
	}
	interrupt()
	if lines.Scan() {
		t.Errorf("after Ctrl-C: %q", lines.Text())
	}
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d", got)
	}
}

func TestTextsFromOutsideAreEscaped(t *testing.T) {
	for text, want := range map[string]string{
		"plain\ttab": "plain\ttab", "a\nb\r": `a\nb\r`, "\x1b]0;x\a": `\x1b]0;x\a`, "\xff\xfe": `\xff\xfe`,
		"\u202e猫\ufffd": `\u202e猫` + "\ufffd", "'": "'", `\`: `\`,
	} {
		if got := escaped(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestMomentsAreTimesOrHowLongAgo(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"10m": now.Add(-10 * time.Minute), "1h30m": now.Add(-90 * time.Minute), "2d": now.AddDate(0, 0, -2),
		"0.5d": now.Add(-12 * time.Hour), "0s": now,
		"2026-01-02T03:04:05.5Z": time.Date(2026, 1, 2, 3, 4, 5, 5e8, time.UTC),
		"2026-01-02":             time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local),
		"2026-01-02 03:04:05":    time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local), "-1m": {}, "x": {}, "": {}, "d": {},
		"10": {},
	} {
		m := moment{now: func() time.Time { return now }}
		if err := m.Set(text); !m.at.Equal(want) || (err == nil) == want.IsZero() {
			t.Errorf("%q: %v, %v", text, m.at, err)
		}
	}
}
