package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	serverless "github.com/tangle-network/blueprint-serverless"
)

// screen interprets what a terminal would show of text: lines, and the one sequence that goes up and clears.
func screen(text string) []string {
	lines := []string{""}
	up := regexp.MustCompile(`^\x1b\[(\d+)A\x1b\[J`)
	for text != "" {
		if m := up.FindStringSubmatch(text); m != nil {
			var n int
			fmt.Sscan(m[1], &n)
			lines = append(lines[:len(lines)-1-n], "")
			text = text[len(m[0]):]
			continue
		}
		r, size := utf8.DecodeRuneInString(text)
		text = text[size:]
		if r == '\n' {
			lines = append(lines, "")
		} else {
			lines[len(lines)-1] += string(r)
		}
	}
	return lines[:len(lines)-1]
}

func TestLiveLinesFitAnyTerminalAndLeaveNothing(t *testing.T) {
	start := time.Now()
	for _, width := range []int{20, 40, 80, 200} {
		var out lockedBuffer
		a := &app{streams: streams{err: &out}}
		a.log = &console{w: &out}
		p := a.progress("")
		p.started = start
		a.log.width = func() int { return width } // after progress began, so that the test repaints
		const units = 200
		for i := range units {
			unit := fmt.Sprintf("service-with-a-long-name-job%d", i)
			p.event(serverless.Event{Time: start, Kind: serverless.EventStarted, Phase: serverless.PhaseFunction, Action: "create", Unit: unit})
			p.event(serverless.Event{Kind: serverless.EventProgress, Phase: serverless.PhaseFunction, Action: "create", Unit: unit, Step: "upload", Bytes: 5 << 20, TotalBytes: 10 << 20})
		}
		for i := range units {
			lines := p.lines(width, start.Add(3*time.Second))
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); n >= width {
					t.Fatalf("%d columns: a line takes %d: %q", width, n, line)
				}
			}
			if len(lines) > maxLiveLines+2 {
				t.Fatalf("%d columns: %d live lines", width, len(lines))
			}
			a.log.show(lines)
			if width == 80 && i == 0 {
				if want := "  create service-with-a-long-name-job0: upload 5.0 of 10.0 MB (50%)  3.0 s"; lines[0] != want {
					t.Errorf("the first live line is %q, want %q", lines[0], want)
				}
				if want := "0 done, 200 under way, 3.0 s"; lines[len(lines)-1] != want {
					t.Errorf("the total is %q, want %q", lines[len(lines)-1], want)
				}
			}
			p.event(serverless.Event{Kind: serverless.EventEnded, Phase: serverless.PhaseFunction, Action: "create", Unit: fmt.Sprintf("service-with-a-long-name-job%d", i), Attempt: 1, Duration: time.Second})
		}
		p.end()
		shown := screen(out.String())
		if len(shown) != units {
			t.Errorf("%d columns: %d lines stay, want one for each function", width, len(shown))
		}
		for _, line := range shown {
			if !strings.HasPrefix(line, "done create ") {
				t.Errorf("%d columns: %q stays", width, line)
			}
		}
	}
}

func TestPipedProgressIsPlain(t *testing.T) {
	var out lockedBuffer
	a := &app{}
	a.log = &console{w: &out}
	p := a.progress("")
	p.undoes = true
	for _, e := range []serverless.Event{
		{Kind: serverless.EventStarted, Phase: serverless.PhaseFunction, Action: "create", Unit: "a"},
		{Kind: serverless.EventEnded, Phase: serverless.PhaseFunction, Action: "create", Unit: "a", Attempt: 3, Duration: 1500 * time.Millisecond},
		{Kind: serverless.EventStarted, Phase: serverless.PhaseFunction, Action: "create", Unit: "b"},
		{Kind: serverless.EventEnded, Phase: serverless.PhaseFunction, Action: "create", Unit: "b", Err: errors.New("no\x1b[2Jroom")},
		{Kind: serverless.EventStarted, Phase: serverless.PhaseFunction, Action: "remove", Unit: "a"},
		{Kind: serverless.EventEnded, Phase: serverless.PhaseFunction, Action: "remove", Unit: "a", Attempt: 1, Duration: time.Second},
	} {
		p.event(e)
	}
	p.end()
	want := "done create a in 1.5s, at attempt 3\nfailed create b: no\ufffd[2Jroom\ndone undo: remove a in 1s\n"
	if out.String() != want {
		t.Errorf("printed\n%q, want\n%q", out.String(), want)
	}
}

func TestLiveProgressRepaintsAndEnds(t *testing.T) {
	var out lockedBuffer
	a := &app{}
	a.log = &console{w: &out, width: func() int { return 80 }}
	p := a.progress("")
	p.event(serverless.Event{Time: time.Now(), Kind: serverless.EventStarted, Phase: serverless.PhaseObserve, Unit: "a"})
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(out.String(), "observe a") && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	p.end()
	if text := out.String(); !strings.Contains(text, "observe a") || len(screen(text)) != 0 {
		t.Errorf("shown %q, of which %q stays", text, screen(text))
	}
}
