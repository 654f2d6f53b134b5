package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// temp gives the test its own directory for temporary files, and fails the test if anything is left
// in it.
func temp(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir)
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left in the temporary directory: %v, %v", left, err)
		}
	})
}

// printed is what the program prints, without the times.
const printed = `1. A chain: a model in this program.
2. The blueprint is built and measured: job 2 remembers, so it is not for FaaS.
3. Deployed: jobs [0 1] on FaaS, jobs [2] in the runner.
4. Submitted on the chain, and answered there:
   call 0  job 0  "pear apple fig"      "apple fig pear"
   call 1  job 1  "pear apple fig"      "65fdad4e"
   call 2  job 2  "two words"           "2 words so far"
   call 3  job 0  "to be or not to be"  "be be not or to to"
   call 4  job 2  "and three more"      "5 words so far"
5. Invoked job 2 beside the chain: "9 words so far". The service is healthy.
6. Stopped the runner and removed the functions. Its journal would stay.
`

func TestResultsArriveOnTheChain(t *testing.T) {
	temp(t)
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out); err != nil {
		t.Fatalf("%v after:\n%s", err, out.String())
	}
	got := regexp.MustCompile(`(?m) +[0-9.]+m?s$`).ReplaceAllString(out.String(), "")
	if diff := cmp.Diff(printed, got); diff != "" {
		t.Errorf("the story (-want +got):\n%s", diff)
	}
}

// stopper ends the program, as Ctrl-C does, once it has printed a text.
type stopper struct {
	at   string
	stop context.CancelFunc
	bytes.Buffer
}

func (s *stopper) Write(b []byte) (int, error) {
	n, err := s.Buffer.Write(b)
	if strings.Contains(s.String(), s.at) {
		s.stop()
	}
	return n, err
}

func TestCtrlCLeavesNothing(t *testing.T) {
	for _, at := range []string{"1. ", "3. "} {
		t.Run(at, func(t *testing.T) {
			temp(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &stopper{at: at, stop: cancel}
			if err := run(ctx, nil, out); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want that of the cancelled context", err)
			}
		})
	}
}

func TestMistakesEndTheProgram(t *testing.T) {
	temp(t)
	for says, args := range map[string][]string{`"now"`: {"now"}, "no-anvil-here": {"-anvil", "/no-anvil-here"}} {
		if err := run(t.Context(), args, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: error %v", args, err)
		}
	}
}
