//go:build !linux

package worker

import (
	"os"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// output is the standard output of a warm process, which only the reader goroutine reads.
type output struct{ *os.File }

func takeOutput(stdout *os.File) (*output, error) { return &output{stdout}, nil }

func (*output) ended(time.Duration) {} // reap ends the reading
func (o *output) enlarge()          { enlarge(o.File) }
func (*output) take() bool          { return false }
func (*output) listen()             {}
func (*output) giveBack()           {}

func (o *output) await(frames *frame.Reader) error { return frames.Fill(o.File) }

func (*output) receive(*frame.Reader, func() error) error { return nil }
