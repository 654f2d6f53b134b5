package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	serverless "github.com/tangle-network/blueprint-serverless"
)

func TestALiveLineFitsAnyTerminal(t *testing.T) {
	start := time.Now()
	p := &progress{started: start}
	u := &unitLine{action: "create", unit: "service-with-a-long-name-job0", step: "upload", bytes: 5 << 20,
		total: 10 << 20, since: start}
	p.active = append(p.active, u)
	now := start.Add(3 * time.Second)
	for width, want := range map[int]string{
		200: "  create service-with-a-long-name-job0: upload 5.0 of 10.0 MB (50%)  3.0 s",
		80:  "  create service-with-a-long-name-job0: upload 5.0 of 10.0 MB (50%)  3.0 s",
		40:  "  create service-with-a-long-...  3.0 s",
	} {
		if got := p.line(0, width, now); got != want {
			t.Errorf("%d columns: %q, want %q", width, got, want)
		}
	}
	u.unit = "ブループリント-job0"
	for width := 4; width < 200; width++ {
		for _, line := range []string{p.line(0, width, now), p.line(maxLiveLines, width, now)} {
			if n := runewidth.StringWidth(line); n >= width {
				t.Errorf("%d columns: %q takes %d", width, line, n)
			}
		}
	}
	if got, want := p.line(maxLiveLines, 80, now), "0 done, 1 under way, 3.0 s"; got != want {
		t.Errorf("the total is %q, want %q", got, want)
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
		{Kind: serverless.EventEnded, Phase: serverless.PhaseFunction, Action: "create", Unit: "a", Attempt: 3,
			Duration: 1500 * time.Millisecond},
		{Kind: serverless.EventStarted, Phase: serverless.PhaseFunction, Action: "create", Unit: "b"},
		{Kind: serverless.EventEnded, Phase: serverless.PhaseFunction, Action: "create", Unit: "b",
			Err: errors.New("no\x1b[2Jroom")},
		{Kind: serverless.EventStarted, Phase: serverless.PhaseFunction, Action: "remove", Unit: "a"},
		{Kind: serverless.EventEnded, Phase: serverless.PhaseFunction, Action: "remove", Unit: "a", Attempt: 1,
			Duration: time.Second},
	} {
		p.event(e)
	}
	p.end()
	want := "done create a in 1.5s, at attempt 3\nfailed create b: no\ufffd[2Jroom\ndone undo: remove a in 1s\n"
	if out.String() != want {
		t.Errorf("printed\n%q, want\n%q", out.String(), want)
	}
}

// work sends the events of so many functions, of which eight are worked on at a time.
func work(p *progress, functions int, between func(done int)) {
	unit := func(i int) string { return fmt.Sprintf("service-with-a-long-name-job%d", i) }
	start := func(i int) {
		p.event(serverless.Event{Time: time.Now(), Kind: serverless.EventStarted, Phase: serverless.PhaseFunction,
			Action: "create", Unit: unit(i)})
		p.event(serverless.Event{Kind: serverless.EventProgress, Phase: serverless.PhaseFunction, Action: "create",
			Unit: unit(i), Step: "upload", Bytes: 5 << 20, TotalBytes: 10 << 20})
	}
	const atOnce = 12
	for i := range min(functions, atOnce) {
		start(i)
	}
	for i := range functions {
		between(i)
		p.event(serverless.Event{Kind: serverless.EventEnded, Phase: serverless.PhaseFunction, Action: "create",
			Unit: unit(i), Attempt: 1, Duration: time.Second})
		if i+atOnce < functions {
			start(i + atOnce)
		}
	}
}

func TestAQuietOperationShowsNothing(t *testing.T) {
	var out lockedBuffer
	a := &app{quiet: true}
	a.log = &console{w: &out, width: func() int { return 80 }}
	p := a.progress("")
	work(p, 3, func(int) {})
	p.end()
	if strings.TrimSpace(out.String()) != "" {
		t.Errorf("shown: %q", out.String())
	}
}
